"""Pure rules: values in, values or findings out."""
