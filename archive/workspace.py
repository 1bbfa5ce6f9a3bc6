"""One opened archive: what every use case works on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from archive.clock import Clock
from archive.config import Settings
from archive.rules.policy import Policy
from archive.store import ballast
from archive.store.catalogue.connection import Catalogue
from archive.store.root import Root, open_existing, prepare


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Root, catalogue, settings and compiled rules of one archive, for one process; threads share it."""

    root: Root
    catalogue: Catalogue
    settings: Settings
    policy: Policy
    clock: Clock

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        settings: Settings,
        policy: Policy,
        actor: str,
        clock: Clock | None = None,
        create: bool = False,
    ) -> Self:
        """Open the archive at `path`; with `create`, make and check its folders first.

        Parameters
        ----------
        actor
            Who acts, for the audit: ``user@host``, or the process's name.

        Raises
        ------
        RootError
            There is none, it is not usable, or its catalogue is not one.
        """
        clock = clock or Clock()
        root = prepare(path) if create else open_existing(path)
        try:
            lock_path = root.path / "locks" / "catalogue"
            catalogue = Catalogue(
                root.catalogue_path,
                lock_path=lock_path,
                actor=actor,
                clock=clock,
                relieve=lambda: ballast.release(root.fd),
            )
            try:
                catalogue.migrate()
            except BaseException:
                catalogue.close()
                raise
        except BaseException:
            root.close()
            raise
        return cls(root=root, catalogue=catalogue, settings=settings, policy=policy, clock=clock)

    def close(self) -> None:
        """Close the catalogue and the root."""
        self.catalogue.close()
        self.root.close()
