"""What the configuration decides about an instance, compiled once at start.

A bad rule or template stops the start, not an image.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self, TypeVar

from archive.config import LimitSettings, ProjectSettings, ReceiverSettings, Settings
from archive.defaults import TEMPLATE as DEFAULT_TEMPLATE
from archive.errors import ConfigurationError
from archive.model import Autoarchive, MergeMode
from archive.rules.expressions import RuleSet, parse_rules, rules_from_lists
from archive.rules.filters import FilterMode, SeriesFilter, SeriesFilters
from archive.rules.header_walk import HeaderLimits
from archive.rules.naming import NameTemplate
from archive.rules.routing import Project, ProjectList, ReceiverRouting, Router, Routing

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Routers by (AE title, port), the file name template, filters, and the tags that headers are read with."""

    routers: Mapping[tuple[str, int], Routing]
    template: NameTemplate
    also: frozenset[int]
    limits: HeaderLimits
    merge_modes: Mapping[str, MergeMode]
    filters: SeriesFilters

    @classmethod
    def compile(cls, settings: Settings, *, rules_text: str = "", rules_name: str = "routes.rules") -> Self:
        """Compile all of it.

        Raises
        ------
        ConfigurationError
            With every problem of every rule, every filter and the template, not only the first.
        """
        problems: list[str] = []
        rules = _attempt(lambda: parse_rules(rules_text, rules_name), RuleSet(), problems)
        site = _attempt(lambda: _site_rules(settings), RuleSet(), problems)
        projects = _attempt(lambda: _projects(settings), ProjectList(), problems)
        template = _attempt(
            lambda: _template(settings.naming.template),
            NameTemplate.compile(DEFAULT_TEMPLATE),
            problems,
        )
        filters = _filters(settings, problems)
        routers: dict[tuple[str, int], Router] = {}
        for receiver in settings.receiver:
            router = _attempt(lambda r=receiver: _router(r, rules, site, projects), None, problems)  # type: ignore[misc]
            if router is not None:
                routers[receiver.ae_title, receiver.port] = router
        if problems:
            raise ConfigurationError(problems)
        also = frozenset(template.tags).union(filters.tags, *(router.tags for router in routers.values()))
        return cls(
            routers=MappingProxyType(routers),
            template=template,
            also=also,
            limits=header_limits(settings.limits),
            merge_modes=MappingProxyType(
                {project.id: mode for project in settings.project if (mode := _stated_mode(project)) is not None}
            ),
            filters=filters,
        )

    def router(self, receiver: ReceiverSettings) -> Routing:
        """The router of a receiver."""
        return self.routers[receiver.ae_title, receiver.port]

    def merge_mode(self, project: str | None, autoarchive: Autoarchive = Autoarchive.AUTO) -> MergeMode:
        """What autoarchive may do with a session: as its project says, else as it came; overwriting is asked for."""
        asked = MergeMode.OVERWRITE if autoarchive is Autoarchive.AUTO_OVERWRITE else MergeMode.APPEND
        return self.merge_modes.get(project or "", asked)


def _stated_mode(project: ProjectSettings) -> MergeMode | None:
    """The project's mode; without one, its autoarchive may ask to overwrite."""
    if project.mode is None and project.autoarchive is Autoarchive.AUTO_OVERWRITE:
        return MergeMode.OVERWRITE
    return project.mode


def header_limits(limits: LimitSettings) -> HeaderLimits:
    """The bounds of the header walk."""
    return HeaderLimits(read_bytes=limits.header_read_bytes, elements=limits.header_elements, depth=limits.header_depth)


def _attempt(make: Callable[[], T], otherwise: T, problems: list[str]) -> T:
    try:
        return make()
    except ConfigurationError as error:
        problems.extend(error.problems)
        return otherwise


def _template(text: str) -> NameTemplate:
    try:
        return NameTemplate.compile(text)
    except ConfigurationError as error:
        raise ConfigurationError([f"naming.template: {problem}" for problem in error.problems]) from None


def _filters(settings: Settings, problems: list[str]) -> SeriesFilters:
    site = settings.filters
    own = {
        project.id: _attempt(
            lambda p=project: _filter(p.filter_lines, p.filter_mode, f"project {p.id} filter"),  # type: ignore[misc]
            None,
            problems,
        )
        for project in settings.project
    }
    return SeriesFilters(
        site=_attempt(lambda: _filter(site.lines, site.mode, "site filter"), None, problems),
        projects=MappingProxyType({name: each for name, each in own.items() if each is not None}),
    )


def _filter(lines: Iterable[str], mode: str, where: str) -> SeriesFilter | None:
    return SeriesFilter.compile(lines, FilterMode(mode), where)


def _site_rules(settings: Settings) -> RuleSet:
    routing = settings.routing
    return rules_from_lists(
        "prearc.toml [routing]", project=routing.project, subject=routing.subject, session=routing.session
    )


def _projects(settings: Settings) -> ProjectList:
    return ProjectList(
        entries=tuple(
            Project(id=project.id, aliases=project.aliases, autoarchive=project.autoarchive)
            for project in settings.project
        )
    )


def _router(receiver: ReceiverSettings, rules: RuleSet, site: RuleSet, projects: ProjectList) -> Router:
    routing = ReceiverRouting(
        ae_title=receiver.ae_title,
        project=receiver.project,
        subject=receiver.subject,
        session=receiver.session,
        autoarchive=receiver.autoarchive,
    )
    return Router(receiver=routing, rules=rules, site=site, projects=projects)
