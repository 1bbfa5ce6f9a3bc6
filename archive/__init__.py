"""The product: vocabulary, rules, stores and use cases."""
