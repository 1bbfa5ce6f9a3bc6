"""The settings: defaults, bounds, who may call, and problems that name file, key and remedy."""

import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from archive.config import ReceiverSettings, Settings
from archive.config_file import BUILT_IN, Loaded, effective_items, load_settings, settings_schema
from archive.errors import ConfigurationError
from archive.model import Autoarchive, MergeMode


def _load(folder: Path, text: str, *, root: Path | None = None) -> Loaded:
    path = folder / "node.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, root=root)


def _problems(folder: Path, text: str) -> list[str]:
    """The problems of a file, without the file's name, which each must start with."""
    with pytest.raises(ConfigurationError) as raised:
        _load(folder, text)
    prefix = f"{folder / 'node.toml'}: "
    assert all(problem.startswith(prefix) for problem in raised.value.problems)
    return [problem.removeprefix(prefix) for problem in raised.value.problems]


# --- where the settings come from


def test_a_node_runs_without_any_file(tmp_path: Path) -> None:
    """Without a file the defaults hold, and say so."""
    loaded = load_settings(None, root=tmp_path)

    assert loaded.source == BUILT_IN
    assert loaded.rules_path is None
    assert loaded.settings.node.root == tmp_path
    (receiver,) = loaded.settings.receiver
    assert (receiver.ae_title, receiver.port, receiver.bind) == ("PREARC", 8104, "127.0.0.1")


def test_the_file_in_the_root_is_found(tmp_path: Path) -> None:
    """``<root>/prearc.toml`` is read when no file is named."""
    (tmp_path / "prearc.toml").write_text("[archiver]\ntick_seconds = 1\n")

    loaded = load_settings(None, root=tmp_path)

    assert loaded.source == str(tmp_path / "prearc.toml")
    assert loaded.settings.archiver.tick_seconds == 1.0


def test_a_root_that_is_given_wins_over_the_file(tmp_path: Path) -> None:
    """``--root`` overrides ``node.root``; without it the file's root holds."""
    text = '[node]\nroot = "/srv/prearc"\n'

    assert _load(tmp_path, text).settings.node.root == Path("/srv/prearc")
    assert _load(tmp_path, text, root=tmp_path).settings.node.root == tmp_path


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    """A file somebody named is never replaced by the defaults."""
    with pytest.raises(ConfigurationError, match=r"gone\.toml: no such file"):
        load_settings(tmp_path / "gone.toml", root=tmp_path)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_a_file_in_the_root_that_cannot_be_read_is_an_error(tmp_path: Path, make) -> None:
    """Only absence means defaults; a folder or a broken link of that name does not."""
    make(tmp_path / "prearc.toml")

    with pytest.raises(ConfigurationError, match=r"prearc\.toml: "):
        load_settings(None, root=tmp_path)


def test_the_environment_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line alone reads ``PREARC_*``."""
    for name in ("PREARC_ROOT", "PREARC_CONFIG", "PORT", "NODE__UMASK"):
        monkeypatch.setitem(os.environ, name, "/nowhere")

    assert load_settings(None, root=tmp_path).settings.model_copy(update={"node": Settings().node}) == Settings()


# --- the rules file


def test_routes_rules_beside_the_file_are_the_default(tmp_path: Path) -> None:
    """Without ``routing.rules``, ``routes.rules`` beside the file counts, if there is one."""
    assert _load(tmp_path, "").rules_path is None

    (tmp_path / "routes.rules").touch()

    assert _load(tmp_path, "").rules_path == tmp_path / "routes.rules"


def test_a_rules_file_is_relative_to_the_configuration(tmp_path: Path) -> None:
    """``routing.rules`` is looked for in the configuration's folder, not in the working directory."""
    (tmp_path / "mine.rules").touch()

    loaded = _load(tmp_path, '[routing]\nrules = "mine.rules"\n')

    assert loaded.rules_path == tmp_path / "mine.rules"


def test_a_named_rules_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    """A rules file somebody named must be there, whatever lies beside it."""
    (tmp_path / "routes.rules").touch()

    problems = _problems(tmp_path, '[routing]\nrules = "mine.rules"\n')

    assert problems == [f"routing.rules: no such file: {tmp_path / 'mine.rules'}"]


# --- problems


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """Sections, array entries, the rules file and unknown tables: one run names them all."""
    problems = _problems(
        tmp_path,
        '[nodes]\n[node]\numask = "777"\n[routing]\nrules = "gone"\n'
        "[[receiver]]\nport = 70000\n[[receiver]]\nidle_second = 3\n"
        '[[project]]\nid = "A"\n[[project]]\nid = "A"\n',
    )

    assert [problem.partition(": ")[0] for problem in problems] == [
        "node.umask",
        "receiver[1].port",
        "receiver[2].idle_second",
        "project[2].id",
        "nodes",
        "routing.rules",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[[receiver]]\n[[receiver]]\nport = 11112\nidel_seconds = 3",
            "receiver[2].idel_seconds{} (did you mean 'idle_seconds'?)",
        ),
        ("[node]\nidle_seconds = 3", "node.idle_seconds{} (did you mean 'receiver.idle_seconds'?)"),
        ("[limit]", "limit{} (did you mean 'limits'?)"),
        ("port = 104", "port{} (did you mean 'receiver.port'?)"),
        ("[tls]", "tls{}"),
        ('[node]\n"a\\nb" = 1', 'node."a\\nb"{}'),
    ],
)
def test_an_unknown_key_is_named_with_the_one_that_was_meant(tmp_path: Path, text: str, problem: str) -> None:
    """A misspelt key is an error with a suggestion, on one line, never ignored."""
    assert _problems(tmp_path, text) == [problem.format(": unknown key")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"a = 1\nb 3", "line 2, column 3: Expected '=' after a key in a key/value pair"),
        (b"a = 1\nb = [", "line 2, column 6: Invalid value"),
        (b'a = 1\nb = "\xff"', "line 2, column 6: not UTF-8"),
    ],
)
def test_a_syntax_error_names_line_and_column(tmp_path: Path, text: bytes, problem: str) -> None:
    """A file that is not TOML is refused with the place."""
    path = tmp_path / "node.toml"
    path.write_bytes(text)

    with pytest.raises(ConfigurationError) as raised:
        load_settings(path)

    assert raised.value.problems == (f"{path}: {problem}",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[limits]\nconnections = true", "limits.connections: should be an integer (got true)"),
        ('[limits]\nconnections = "5"', 'limits.connections: should be an integer (got "5")'),
        ("[limits]\nconnections = 1.5", "limits.connections: should be an integer (got 1.5)"),
        ("[limits]\nconnections = 0", "limits.connections: should be greater than or equal to 1 (got 0)"),
        ("[archiver]\ntick_seconds = false", "archiver.tick_seconds: should be a number (got false)"),
        ('[archiver]\ntick_seconds = "5"', 'archiver.tick_seconds: should be a number (got "5")'),
        ("[archiver]\ntick_seconds = nan", "archiver.tick_seconds: should be a finite number (got NaN)"),
        ("[node]\numask = 77", "node.umask: should be text (got 77)"),
        ("[node]\nroot = 3", "node.root: should be text (got 3)"),
        ("[receiver]\nport = 1", "receiver: should be an array of tables, written [[receiver]]"),
        ("receiver = []", "receiver: should have at least one entry"),
        ("[[node]]", "node: should be a table, written [node]"),
        ('[[receiver]]\nallow = "SCANNER"', 'receiver[1].allow: should be a list (got "SCANNER")'),
        ("[[project]]", "project[1].id: is required"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    """Nothing is converted: a boolean is no number, text is no number, a table is no array."""
    assert _problems(tmp_path, text) == [problem]


# --- the node


def test_a_whole_number_of_seconds_is_a_number_of_seconds(tmp_path: Path) -> None:
    """``idle_seconds = 5`` needs no decimal point."""
    assert _load(tmp_path, "[[receiver]]\nidle_seconds = 5").settings.receiver[0].idle_seconds == 5.0


@pytest.mark.parametrize(("umask", "bits"), [("077", 0o077), ("0027", 0o027), ("000", 0)])
def test_the_umask_is_octal_text(tmp_path: Path, umask: str, bits: int) -> None:
    """The digits mean what they mean to a shell."""
    assert _load(tmp_path, f'[node]\numask = "{umask}"').settings.node.umask_bits == bits


@pytest.mark.parametrize("umask", ["777", "0100", "78", "089", "0o77", "-77", ""])
def test_a_umask_that_would_lock_the_node_out_is_refused(tmp_path: Path, umask: str) -> None:
    """The owner keeps all rights, and what is not octal is not guessed at."""
    (problem,) = _problems(tmp_path, f'[node]\numask = "{umask}"')

    assert problem.startswith(f"node.umask: {umask!r} is no octal text")


def test_the_high_water_is_never_below_the_low_water(tmp_path: Path) -> None:
    """The gap between them is what keeps a full disk from opening and closing the door all the time."""
    assert _problems(tmp_path, "[node]\nlow_water_bytes = 4096\nhigh_water_bytes = 4095") == [
        "node.high_water_bytes: 4095 is below low_water_bytes, 4096"
    ]
    loaded = _load(tmp_path, "[node]\nlow_water_bytes = 4096\nhigh_water_bytes = 4096")
    assert loaded.settings.node.high_water_bytes == 4096


# --- receivers


@pytest.mark.parametrize("ae_title", ["A", "A B", "X" * 16, "A@B", "~!", "PREARC_1"])
def test_ae_titles_of_the_standard_are_accepted(ae_title: str) -> None:
    """1 to 16 printable ASCII characters (DICOM PS3.5 6.2)."""
    assert ReceiverSettings(ae_title=ae_title).ae_title == ae_title


@pytest.mark.parametrize("ae_title", ["", " A", "A ", "X" * 17, "A\\B", "A\n", "Ä", "A\tB", "A\x7f"])
def test_other_ae_titles_are_refused_in_xnats_words(ae_title: str) -> None:
    """Too long, blank at an end, a backslash, control characters, other scripts."""
    with pytest.raises(ValidationError) as raised:
        ReceiverSettings(ae_title=ae_title)

    (error,) = raised.value.errors()
    assert str(error["ctx"]["error"]) == f"Invalid AE-title: {ae_title}"


def test_a_problem_stays_on_one_line(tmp_path: Path) -> None:
    """Line ends and terminal codes of a value are escaped."""
    assert _problems(tmp_path, '[[receiver]]\nae_title = "A\\n\\u001b[1m"') == [
        "receiver[1].ae_title: Invalid AE-title: A\\n\\u001b[1m"
    ]


def test_the_same_title_on_the_same_port_is_refused(tmp_path: Path) -> None:
    """(AE title, port) names a receiver."""
    assert _problems(tmp_path, "[[receiver]]\n[[receiver]]\n") == [
        "receiver[2].ae_title: PREARC on port 8104 is receiver[1] already"
    ]


def test_several_titles_share_a_port(tmp_path: Path) -> None:
    """One listener, two receivers."""
    loaded = _load(tmp_path, '[[receiver]]\nport = 0\n[[receiver]]\nae_title = "B"\nport = 0\n')

    assert [(receiver.ae_title, receiver.port) for receiver in loaded.settings.receiver] == [
        ("PREARC", 0),
        ("B", 0),
    ]


def test_one_port_has_one_bind(tmp_path: Path) -> None:
    """A port cannot listen on two addresses; port 0, which is a port of its own for each, can."""
    text = '[[receiver]]\nport = {0}\n[[receiver]]\nae_title = "B"\nport = {0}\nbind = "::1"\n'

    assert _problems(tmp_path, text.format(104)) == ["receiver[2].bind: port 104 listens on 127.0.0.1 already"]
    assert len(_load(tmp_path, text.format(0)).settings.receiver) == 2


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.168.1.4", "::ffff:10.0.0.1", "fe80::1"])
def test_an_open_bind_needs_callers(tmp_path: Path, bind: str) -> None:
    """Without ``allow`` only loopback addresses are listened on; ``["*"]`` is said in words."""
    text = f'[[receiver]]\nbind = "{bind}"\n'

    (problem,) = _problems(tmp_path, text)

    assert problem.startswith("receiver[1].allow: is empty")
    assert _load(tmp_path, text + 'allow = ["*"]\n').settings.receiver[0].allow == ("*",)


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "::ffff:127.0.0.1"])
def test_a_loopback_bind_needs_no_callers(bind: str) -> None:
    """The default node takes whatever this machine sends."""
    assert ReceiverSettings(bind=bind).allows("ANY", "127.0.0.1")


@pytest.mark.parametrize("bind", ["", "*", "pacs.example", "127.0.0.1/8", "10.0.0.300", " 127.0.0.1"])
def test_a_bind_is_an_address(tmp_path: Path, bind: str) -> None:
    """Names are not resolved: nobody could promise that they stay on this machine."""
    assert _problems(tmp_path, f'[[receiver]]\nbind = "{bind}"') == [
        f"receiver[1].bind: should be an IP address or 'localhost' (got '{bind}')"
    ]


def test_a_changed_copy_with_an_open_bind_lets_nobody_in() -> None:
    """Where validation was bypassed, an empty allow-list is closed, not open."""
    receiver = ReceiverSettings().model_copy(update={"bind": "0.0.0.0"})

    assert not receiver.allows("ANY", "10.0.0.1")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("A@10.0.0.300", "Invalid Ip Address in whitelist: A@10.0.0.300"),
        ("A@", "Invalid Ip Address in whitelist: A@"),
        ("A@*", "Invalid Ip Address in whitelist: A@*"),
        ("A@host", "Invalid Ip Address in whitelist: A@host"),
        ("10.0.0.300", "Invalid Ip Address in whitelist: 10.0.0.300"),
        ("10.0.0.0/33", "Invalid Ip Address in whitelist: 10.0.0.0/33"),
        ("10.0.0.1/8", "Invalid Ip Address in whitelist: 10.0.0.1/8 (the network is 10.0.0.0/8)"),
        ("A@10.0.0.1/8", "Invalid Ip Address in whitelist: A@10.0.0.1/8 (the network is 10.0.0.0/8)"),
        ("fe80::1::2", "Invalid Ip Address in whitelist: fe80::1::2"),
        ("@10.0.0.1", "Invalid AE-title in whitelist: @10.0.0.1"),
        ("A\\B", "Invalid AE-title in whitelist: A\\B"),
        (" A@10.0.0.1", "Invalid AE-title in whitelist:  A@10.0.0.1"),
        ("THIS_TITLE_IS_LONG", "Invalid AE-title in whitelist: THIS_TITLE_IS_LONG"),
        ("", "Invalid item in whitelist: "),
        ("  ", "Invalid item in whitelist:   "),
        ("A@B@10.0.0.1", "Invalid item in whitelist: A@B@10.0.0.1"),
        ("*@10.0.0.1", "Invalid item in whitelist: *@10.0.0.1"),
    ],
)
def test_a_bad_caller_is_refused_in_xnats_words(item: str, message: str) -> None:
    """An item that would never match, or match too much, stops the start."""
    with pytest.raises(ValidationError) as raised:
        ReceiverSettings(allow=(item,))

    (error,) = raised.value.errors()
    assert str(error["ctx"]["error"]) == message
    assert error["loc"] == ("allow", 0)


@pytest.mark.parametrize(
    ("item", "calling_ae_title", "peer_host", "is_allowed"),
    [
        ("*", "ANY", "203.0.113.9", True),
        ("*", "ANY", "no address", True),
        ("CT1", "CT1", "203.0.113.9", True),
        ("CT1", "CT1             ", "203.0.113.9", True),
        ("CT1", "ct1", "203.0.113.9", False),
        ("CT1", "CT11", "203.0.113.9", False),
        ("CT1@10.0.0.5", "CT1", "10.0.0.5", True),
        ("CT1@10.0.0.5", "CT1", "10.0.0.6", False),
        ("CT1@10.0.0.5", "CT2", "10.0.0.5", False),
        ("CT1@10.0.0.0/8", "CT1", "10.255.255.255", True),
        ("CT1@10.0.0.0/8", "CT1", "11.0.0.0", False),
        ("10.0.0.0/8", "ANY", "10.1.2.3", True),
        ("10.0.0.0/8", "ANY", "::ffff:10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "ANY", "10.1.2.3", True),
        ("::ffff:10.0.0.5", "ANY", "10.0.0.5", True),
        ("::ffff:10.0.0.5", "ANY", "10.0.0.6", False),
        ("2001:db8::/32", "ANY", "2001:db8::1", True),
        ("2001:db8::/32", "ANY", "2001:db9::1", False),
        ("fe80::/10", "ANY", "fe80::1%eth0", True),
        ("::/0", "ANY", "10.1.2.3", False),
        ("0.0.0.0/0", "ANY", "2001:db8::1", False),
        ("10.0.0.0/8", "10.0.0.0/8", "192.0.2.1", False),
        ("10.0.0.0/8", "ANY", "scanner.example", False),
        ("10.0.0.0/8", "ANY", "10.0.0.0/8", False),
        ("10.0.0.0/8", "ANY", "", False),
    ],
)
def test_a_caller_is_let_in_by_title_and_network(
    item: str, calling_ae_title: str, peer_host: str, is_allowed: bool
) -> None:
    """Title and network must both match where both are given; nothing else lets a caller in."""
    receiver = ReceiverSettings(bind="0.0.0.0", allow=(item,))

    assert receiver.allows(calling_ae_title, peer_host) is is_allowed


def test_one_matching_item_is_enough() -> None:
    """The list is a choice; on a loopback a list that is given counts too."""
    receiver = ReceiverSettings(allow=("CT1", "10.0.0.0/8"))

    assert receiver.allows("MR1", "10.0.0.1")
    assert receiver.allows("CT1", "127.0.0.1")
    assert not receiver.allows("MR1", "127.0.0.1")


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        ("true", Autoarchive.AUTO),
        ("false", Autoarchive.MANUAL),
        ('"auto"', Autoarchive.AUTO),
        ('"manual"', Autoarchive.MANUAL),
    ],
)
@pytest.mark.parametrize("table", ["[[receiver]]", '[[project]]\nid = "P"'])
def test_autoarchive_is_a_word_or_a_boolean(tmp_path: Path, table: str, value: str, meaning: Autoarchive) -> None:
    """XNAT's codes and plain true and false."""
    settings = _load(tmp_path, f"{table}\nautoarchive = {value}").settings

    assert (settings.project or settings.receiver)[0].autoarchive is meaning


def test_overwriting_is_asked_for_by_name(tmp_path: Path) -> None:
    """XNAT's overwriting codes, of a receiver and of a project."""
    text = '[[receiver]]\nautoarchive = "auto-overwrite"\n[[project]]\nid = "P"\nmode = "overwrite"'
    settings = _load(tmp_path, text).settings

    assert settings.receiver[0].autoarchive is Autoarchive.AUTO_OVERWRITE
    assert settings.project[0].mode is MergeMode.OVERWRITE


def test_labels_are_one_value_or_a_list(tmp_path: Path) -> None:
    """A fixed value needs no brackets; blank ones are refused."""
    settings = _load(tmp_path, '[[receiver]]\nproject = "P"\nsubject = ["(0010,0020):(.*)", "x"]').settings

    assert settings.receiver[0].project == ("P",)
    assert settings.receiver[0].subject == ("(0010,0020):(.*)", "x")
    assert _problems(tmp_path, '[[receiver]]\nproject = " "') == ["receiver[1].project[1]: is blank"]


def test_the_cap_is_never_below_the_idle_time(tmp_path: Path) -> None:
    """A cap that always comes first would make the idle time a dead key."""
    assert _problems(tmp_path, "[[receiver]]\nidle_seconds = 20000") == [
        "receiver[1].cap_seconds: 14400 is below idle_seconds, 20000"
    ]


# --- projects


def test_projects_have_names_of_their_own(tmp_path: Path) -> None:
    """No id or alias names two projects, not even by case, and none is the word for no project."""
    problems = _problems(
        tmp_path,
        '[[project]]\nid = "A"\naliases = ["b", "unassigned"]\n'
        '[[project]]\nid = "B"\naliases = ["a"]\n[[project]]\nid = "UNASSIGNED"\n',
    )

    assert [problem.partition(": ")[0] for problem in problems] == [
        "project[3].id",
        "project[1].aliases[1]",
        "project[1].aliases[2]",
        "project[2].aliases[1]",
    ]


@pytest.mark.parametrize("name", ["", "a b", "a/b", "..", "é", "A\\n", "x" * 65])
def test_a_project_id_is_safe_as_a_folder(tmp_path: Path, name: str) -> None:
    """Ids become folders of the prearchive and the archive."""
    (problem,) = _problems(tmp_path, f'[[project]]\nid = "{name}"')

    assert problem.startswith("project[1].id: should ")


def test_a_project_states_its_mode(tmp_path: Path) -> None:
    """``none`` and ``append``; left out is not the same as ``none``."""
    settings = _load(tmp_path, '[[project]]\nid = "A"\nmode = "none"\n[[project]]\nid = "B"\n').settings

    assert [project.mode for project in settings.project] == [MergeMode.NONE, None]


# --- naming


def test_the_default_template_is_xnats() -> None:
    """An archive that nobody configured has the names that XNAT gives (`dicomFileNameTemplate`)."""
    xnats = "${StudyInstanceUID}-${SeriesNumber}-${InstanceNumber}-${HashSOPClassUIDWithSOPInstanceUID}"

    assert Settings().naming.template == xnats


# --- what is shown of them


def test_settings_cannot_be_changed() -> None:
    """Whoever holds the settings may pass them on."""
    with pytest.raises(ValidationError):
        Settings().node.drain_seconds = 3.0  # type: ignore[misc]


def test_settings_survive_a_dump(tmp_path: Path) -> None:
    """Dumped values load again as the same settings: overrides can be laid over them and checked."""
    settings = _load(tmp_path, '[[receiver]]\nautoarchive = true\nproject = "P"\n[[project]]\nid = "P"').settings

    assert Settings.model_validate(settings.model_dump()) == settings


def test_effective_items_tell_defaults_from_choices(tmp_path: Path) -> None:
    """Every key is listed once, with its value and whether somebody chose it."""
    settings = _load(
        tmp_path, '[[receiver]]\n[[receiver]]\nport = 104\nautoarchive = true\n[[project]]\nid = "P"\n'
    ).settings

    items = effective_items(settings)

    chosen = {key: value for key, value, is_default in items if not is_default}
    assert chosen == {"receiver[2].port": 104, "receiver[2].autoarchive": "auto", "project[1].id": "P"}
    assert len({key for key, _, _ in items}) == len(items)
    assert ("node.root", "var", True) in items
    assert ("receiver[1].allow", [], True) in items
    json.dumps(items)


def test_the_schema_says_what_each_key_is() -> None:
    """Every key of the JSON schema has a description, and unknown keys are refused there too."""
    schema = settings_schema()

    models = [schema, *schema["$defs"].values()]
    models = [model for model in models if "properties" in model]
    assert len(models) == 1 + len(Settings.model_fields) + 2  # the schedules of [survey] and [verify]
    for model in models:
        assert model["additionalProperties"] is False
        assert all("description" in key for key in model["properties"].values())


def test_what_is_wrong_hides_nothing_else(tmp_path: Path) -> None:
    """A duplicate, an unknown key and a wrong type are named together, and the rest can still be compiled."""
    text = """
        [node]
        rot = "x"
        [[receiver]]
        cap_seconds = "x"
        project = "(0010,0020):([a-z"
        [[receiver]]
        [[receiver]]
        idle_secnds = 3
    """

    with pytest.raises(ConfigurationError) as caught:
        _load(tmp_path, text)

    lines = "\n".join(caught.value.problems)
    for key in ("node.rot", "receiver[1].cap_seconds", "receiver[3].idle_secnds", "receiver[2].ae_title"):
        assert f"{key}: " in lines
    assert isinstance(caught.value.rest, Loaded)
    assert caught.value.rest.settings.receiver[0].project == ("(0010,0020):([a-z",)
