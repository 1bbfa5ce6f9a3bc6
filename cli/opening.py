"""From the options of a command to what it works on: configuration, rules, catalogue, workspace."""

import os
import pwd
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # each costs a tenth of a second or more, and not every command needs it
    from archive.config import Settings
    from archive.config_file import Loaded
    from archive.rules.policy import Policy
    from archive.store.catalogue.connection import Catalogue, Connection
    from archive.workspace import Workspace


_ACCOUNT: Final = re.compile(r"[\w.@\\-]{1,64}\$?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The global options, the environment laid under them. None: not stated.

    `sudo_user` is who became this user by sudo, as the environment says.
    """

    root: Path | None = None
    config: Path | None = None
    is_json: bool = False
    is_verbose: bool = False
    sudo_user: str = ""


def load(options: Options) -> "Loaded":
    """The settings that hold; raises `ConfigurationError` with all that is wrong, rules and template included."""
    from archive.config_file import Loaded, load_settings
    from archive.errors import ConfigurationError

    try:
        return load_settings(options.config, root=options.root)
    except ConfigurationError as error:
        if not isinstance(error.rest, Loaded):
            raise
        problems = list(error.problems)
        try:
            compile_policy(error.rest)
        except ConfigurationError as further:
            problems += further.problems
        raise ConfigurationError(problems, hint=error.hint) from None


def is_configured(options: Options) -> bool:
    """Whether there is a configuration to load, which costs a tenth of a second; without it the defaults hold."""
    from archive import defaults

    return options.config is not None or os.path.lexists((options.root or defaults.ROOT) / defaults.CONFIG_NAME)


def compile_policy(loaded: "Loaded", settings: "Settings | None" = None) -> "Policy":
    """The rules that go with the loaded settings, or with `settings` that were laid over them.

    Raises
    ------
    ConfigurationError
        With every problem of every rule and of the template.
    """
    from archive.rules.policy import Policy

    name, text = rules_of(loaded)
    return Policy.compile(settings or loaded.settings, rules_text=text, rules_name=name)


def rules_of(loaded: "Loaded") -> tuple[str, str]:
    """(name, text) of the rules file; ("", "") when there is none."""
    from archive.errors import ConfigurationError

    path = loaded.rules_path
    if path is None:
        return "", ""
    try:
        return str(path), path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError([f"{path}: cannot be read: {reason}"]) from error


@contextmanager
def opened(options: Options, *, create: bool = False) -> Iterator["Workspace"]:
    """The workspace of an existing root, closed at the end; with `create` one that is not there is made, and said."""
    from archive.workspace import Workspace
    from cli import logs, render

    logs.configure("DEBUG" if options.is_verbose else "WARNING")
    loaded = load(options)
    policy = compile_policy(loaded)
    root = Path(loaded.settings.node.root)
    is_new = create and not os.path.lexists(root)
    workspace = Workspace.open(root, settings=loaded.settings, policy=policy, actor=actor(options), create=is_new)
    if is_new:
        render.say(f"made a root: {render.escape(root)}")
    try:
        yield workspace
    finally:
        workspace.close()


@contextmanager
def reading(options: Options) -> Iterator["Connection"]:
    """The catalogue of an existing root at one moment: for lists, which are to be fast."""
    with catalogue_of(options) as catalogue, catalogue.snapshot() as connection:
        yield connection


@contextmanager
def catalogue_of(options: Options) -> Iterator["Catalogue"]:
    """The catalogue of an existing root, without settings and rules."""
    from archive.clock import Clock
    from archive.store.catalogue.connection import Catalogue
    from archive.store.root import open_existing

    root = open_existing(root_path(options))
    catalogue = Catalogue(
        root.catalogue_path, lock_path=root.path / "locks" / "catalogue", actor=actor(options), clock=Clock()
    )
    try:
        catalogue.migrate()
        yield catalogue
    finally:
        catalogue.close()
        root.close()


def root_path(options: Options) -> Path:
    """The root: stated, or the configuration's, or ``./var``."""
    if options.root is not None:
        return options.root
    default = Path("var")
    if options.config is None and not (default / "prearc.toml").exists():
        return default
    return Path(load(options).settings.node.root)


def actor(options: Options) -> str:
    """Who acts, for the audit: ``user@host``, and by sudo from whom: ``prearc@host (sudo: alice)``.

    The user is the kernel's word, whatever the environment says; who was behind sudo is the environment's.
    """
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = f"uid {os.geteuid()}"
    from socket import gethostname  # a command that changes nothing has no actor

    by = f" (sudo: {options.sudo_user})" if _ACCOUNT.fullmatch(options.sudo_user) else ""
    return f"{name}@{gethostname()}{by}"


def process_actor(role: str) -> str:
    """Who acts when no person does: ``prearc-archiver@host``."""
    from socket import gethostname

    return f"prearc-{role}@{gethostname()}"
