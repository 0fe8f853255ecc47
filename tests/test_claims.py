"""Claims, held against made-up and real result files: each kind holds, fails, or is not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from test_tables import keep, made, run, seeds

from dfkd import config, grids
from dfkd.errors import ConfigError
from dfkd.report import claims
from dfkd.report._claim_kinds import KINDS, About, Order
from dfkd.report.claims import Verdict
from dfkd.report.gap import CEILING, FLOOR
from dfkd.report.results import Result

DATA = {"a": (0.5, 0.8, 0.9), "b": (0.5, 0.7, 0.9), "c": (0.8, 0.805, 0.81)}
RUNS = [
    one for data, rights in DATA.items() for name, right in zip(("random_tokens", "as_dfd", "real_text"), rights)
    for one in seeds(name, right, right, data=data)
]
CMI = [one for data in "ab" for one in seeds("cmi", 0.6, 0.6, data=data)]  # not on c


def judged(folder: Path, results: list[Result], **claim: Any) -> list[Verdict]:
    """The verdicts on one claim."""
    path = folder / "claims.yaml"
    OmegaConf.save({"claims": [{"claim": "it is so", "source": "somebody", **claim}]}, path)
    return claims.judge(path, results)


BEATS = {"kind": "beats", "over": "random_tokens"}
MEAN = {"kind": "mean_beats", "over": "random_tokens"}
LEVEL = {"kind": "level", "strategy": "as_dfd", "points": 1}
GAP = {"kind": "gap_closed", "strategy": "as_dfd"}
CHEAPER = {"kind": "cheaper", "strategy": "as_dfd", "share": 1}
CASES: list[tuple[dict[str, Any], str, str]] = [
    # as_dfd is clearly better on a and b, and not on c
    ({**BEATS, "strategy": "as_dfd", "at_least": 2}, "holds", "2 of 3 data sets"),
    ({**BEATS, "strategy": "as_dfd", "at_least": 3}, "fails", "3 wanted"),
    ({**BEATS, "strategy": "cmi", "at_least": 2}, "holds", "cmi 60.0 - random_tokens 50.0 = +10.0 ["),
    ({**BEATS, "strategy": "cmi", "at_least": 3}, "not run", "c: 'cmi' 0 of 1 runs"),
    ({**BEATS, "strategy": "cmi", "over": "as_dfd", "at_least": 2}, "fails", "0 of 3"),  # c cannot save it
    ({**BEATS, "strategy": ["cmi", "as_dfd"], "at_least": 2, "data": ["a", "c"]}, "not run", "'cmi' 0 of 1"),
    ({**BEATS, "strategy": "as_dfd", "at_least": 4}, "not run", "4 wanted"),  # there are no four data sets
    ({**MEAN, "strategy": "as_dfd"}, "holds", "as_dfd 76.8 - random_tokens 60.0"),
    ({**MEAN, "strategy": "as_dfd", "over": "real_text"}, "fails", "= -10.2 ["),
    ({**MEAN, "strategy": "as_dfd", "over": "cmi"}, "not run", "c: 'cmi'"),
    ({**MEAN, "strategy": ["cmi", "as_dfd"]}, "holds", "as_dfd 76.8"),
    ({"kind": "order", "strategies": ["real_text", "as_dfd", "random_tokens"]}, "holds", "+16.8 ["),
    ({"kind": "order", "strategies": ["real_text", "random_tokens", "as_dfd"]}, "fails", "-16.8 ["),
    ({"kind": "order", "strategies": ["as_dfd", ["random_tokens", "cmi"]]}, "not run", "76.8 - random_tokens"),
    ({"kind": "order", "strategies": ["random_tokens", ["as_dfd", "cmi"]]}, "fails", "c: 'cmi'"),
    ({"kind": "order", "strategies": ["as_dfd", "cmi"], "data": ["a", "b"]}, "holds", "(a, b; n = 2)"),
    ({**LEVEL, "to": "real_text"}, "holds", "1 of 3"),
    ({**LEVEL, "to": "real_text", "points": 10, "at_least": 2}, "holds", "2 of 3"),
    ({**LEVEL, "to": "real_text", "at_least": 2}, "fails", "1 of 3"),
    ({**LEVEL, "to": "cmi"}, "not run", "0 of 3"),
    ({**LEVEL, "to": "cmi", "or_better": True}, "holds", "2 of 3"),
    ({**LEVEL, "strategy": "random_tokens", "to": "real_text"}, "holds", "1 of 3"),  # where there is nothing to tell
    ({**LEVEL, "to": "real_text", "above_floor": True}, "fails", "random_tokens is level as well"),
    ({**LEVEL, "to": "real_text", "points": 10, "above_floor": True}, "holds", "1 of 2 data sets"),
    ({**MEAN, "strategy": ["cmi", "as_dfd"], "data": ["a", "b"]}, "holds", "the best of 2 strategies"),
    ({**MEAN, "strategy": ["cmi", "as_dfd"], "data": ["b", "a"]}, "holds", "as_dfd 75.0"),
    ({**GAP, "share": 0.6}, "holds", "62 % of the gap ["),
    ({**GAP, "share": 0.7}, "fails", "62 % of the gap ["),
    ({**GAP, "share": 0.1, "data": ["c"]}, "not run", "another student must tell"),
    ({**GAP, "share": 0.1, "strategy": "cmi"}, "not run", "25 % of the gap ["),
    ({**GAP, "share": 0.1, "strategy": "dafl"}, "not run", "no run of 'dafl'"),
    ({**CHEAPER, "than": "real_text"}, "holds", "120 queries of as_dfd"),
    ({**CHEAPER, "than": "real_text", "share": 0.9}, "fails", "120 of real_text"),
    ({**CHEAPER, "than": "cmi"}, "not run", "c: 'cmi'"),
]


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> list[Verdict]:
    """Those on all cases, in one go: the bootstrap is made once for all."""
    path = tmp_path_factory.mktemp("claims") / "claims.yaml"
    listed = [{"claim": str(number), "source": "s", **case[0]} for number, case in enumerate(CASES)]
    OmegaConf.save(OmegaConf.create({"claims": listed}), path)
    return claims.judge(path, RUNS + CMI)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_each_kind_holds_fails_or_is_not_run(verdicts: list[Verdict], number: int) -> None:
    _, expected, shown = CASES[number]
    (said,) = [verdict for verdict in verdicts if verdict.claim == str(number)]
    assert said.verdict == expected and shown in "\n".join(said.numbers), said.numbers


def test_what_fails_so_far_is_told_beside_a_student_for_whom_it_holds(tmp_path: Path) -> None:
    claim = {**BEATS, "strategy": ["as_dfd", "cmi"], "at_least": 2}
    runs = [
        one for student, rights in (("near", (0.5, 0.9)), ("far", (0.9, 0.5)))
        for name, right in zip((FLOOR, "as_dfd"), rights) for data in ("a", "b")
        for one in seeds(name, right, right, data=data, student=student)
    ]
    said = judged(tmp_path, runs, **claim)  # what no run was made of decides nothing
    assert [(one.where.split(", ")[-1], one.verdict) for one in said] == [("near", "holds"), ("far", "fails")]
    begun = [*runs, *seeds("cmi", 0.95, 0.95, data="a", student="far")]
    said = judged(tmp_path, begun, **claim)  # what was begun may yet decide it
    assert [(one.where.split(", ")[-1], one.verdict) for one in said] == [("near", "holds"), ("far", "not run")]
    assert "as_dfd: 0 of 2 data sets, 2 wanted" in said[1].numbers and "'cmi' 0 of 1 runs" in said[1].numbers[-1]


def test_a_data_set_whose_gap_is_chance_does_not_decide_who_is_level(tmp_path: Path) -> None:
    level = {**LEVEL, "to": "real_text", "or_better": True, "above_floor": True}
    values = {FLOOR: (0.70, 0.86), "as_dfd": (0.80, 0.82), "real_text": (0.79, 0.81)}  # the floor's seeds are far apart
    runs = [one for name, rights in values.items() for one in seeds(name, *rights, data="a")]
    (said,) = judged(tmp_path, runs, **level)
    assert said.verdict == "not run" and any("within chance: a" in number for number in said.numbers)
    (said,) = judged(tmp_path, runs, **{**level, "above_floor": False})
    assert said.verdict == "holds"


def test_a_claim_stands_once_with_what_every_student_says_of_it(tmp_path: Path) -> None:
    claim = {**BEATS, "strategy": "as_dfd", "at_least": 1}
    runs = [
        one for student, right in (("far", 0.5), ("near", 0.9))
        for name, value in ((FLOOR, 0.6), ("as_dfd", right)) for one in seeds(name, *[value] * 3, student=student)
    ]
    found = judged(tmp_path, runs, **claim)
    assert [one.verdict for one in found] == ["fails", "holds"]
    (group,) = claims.by_claim(found)
    assert [one.where for one in group] == ["g, near", "g, far"] and claims.counted(group) == "1 holds, 1 fails"
    assert claims.markdown(found).count("it is so") == 2  # in the overview, and above its numbers


def test_an_order_that_chance_may_have_turned_says_so(tmp_path: Path) -> None:
    order = {"kind": "order", "strategies": ["as_dfd", "random_tokens"]}
    near = [*seeds("as_dfd", 0.6, 0.7, 0.8), *seeds(FLOOR, 0.65, 0.72, 0.79)]
    far = [*seeds("as_dfd", 0.6, 0.6, 0.6), *seeds(FLOOR, 0.9, 0.9, 0.9)]
    assert judged(tmp_path, near, **order)[0].said == "fails within chance"
    assert judged(tmp_path, far, **order)[0].said == "fails"


def test_too_few_seeds_are_not_run(tmp_path: Path) -> None:
    claim = {"kind": "mean_beats", "strategy": "as_dfd", "over": "random_tokens"}
    (said,) = judged(tmp_path, RUNS, **claim, seeds=3)
    assert said.verdict == "not run" and "a: 'as_dfd' 2 of 3 runs, 'random_tokens' 2 of 3 runs" in said.numbers[-1]
    assert judged(tmp_path, RUNS, **claim, seeds=2)[0].verdict == "holds"


@pytest.mark.parametrize("claim", [
    {**MEAN, "strategy": "as_dfd"}, {**BEATS, "strategy": ["as_dfd", "cmi"], "at_least": 2}, {**GAP, "share": 0.6},
    {**LEVEL, "to": "real_text", "points": 10, "at_least": 2},
    {"kind": "order", "strategies": ["as_dfd", "random_tokens"]},
])
@pytest.mark.parametrize("few", [1, 2, 3])
def test_a_verdict_on_few_seeds_says_so(tmp_path: Path, claim: dict[str, Any], few: int) -> None:
    runs = [
        one for data, rights in DATA.items() for name, right in zip(("random_tokens", "as_dfd", "real_text"), rights)
        for one in seeds(name, *[right] * (few if name == "as_dfd" else 3), data=data)
    ]
    (said,) = judged(tmp_path, runs, **claim)
    expected = {1: "holds so far (1 seed)", 2: "holds so far (2 seeds)", 3: "holds"}[few]
    assert (said.verdict, said.said, said.seeds) == ("holds", expected, few)
    assert f"| **{expected}** |" in claims.markdown([said])


def test_the_data_sets_with_most_seeds_decide(tmp_path: Path) -> None:
    runs = [
        one for data, count in (("a", 1), ("b", 3), ("c", 4))
        for name, right in (("as_dfd", 0.8), ("random_tokens", 0.5)) for one in seeds(name, *[right] * count, data=data)
    ]
    for wanted, said in ((2, "holds"), (3, "holds so far (1 seed)")):
        (found,) = judged(tmp_path, runs, **BEATS, strategy="as_dfd", at_least=wanted)
        assert found.said == said
    (none,) = judged(tmp_path, runs, kind="mean_beats", strategy="as_dfd", over="dafl")
    assert none.said == "not run" and not none.so_far


def test_the_number_of_queries_needs_no_seeds(tmp_path: Path) -> None:
    runs = [one for name in ("as_dfd", "random_tokens") for one in seeds(name, 0.5)]
    assert judged(tmp_path, runs, **CHEAPER, than="random_tokens")[0].said == "holds"


def test_claims_are_held_against_every_grid_and_student_that_can_tell(tmp_path: Path) -> None:
    more = [*seeds("as_dfd", 0.4, 0.4, grid="h"), *seeds("random_tokens", 0.6, 0.6, grid="h")]
    more += [*seeds("as_dfd", 0.7, grid="h", student="big"), *seeds("lm_free", 0.7, grid="k")]
    claim = {"kind": "mean_beats", "strategy": "as_dfd", "over": "random_tokens"}
    found = judged(tmp_path, RUNS + more, **claim)
    assert [(said.where, said.verdict) for said in found] == [("g, small", "holds"), ("h, small", "fails")]
    for chosen, where in ({"grids": ["h"]}, "h, small"), ({"students": ["big"]}, "h, big"), ({"grids": ["k"]}, ""):
        assert [said.where for said in judged(tmp_path, RUNS + more, **claim, **chosen)] == [where]
    (none,) = judged(tmp_path, [], **claim, ours=True)
    assert (none.verdict, none.where, none.ours) == ("not run", "", True) and "no run of 'as_dfd'" in none.numbers[0]


def test_a_claim_not_run_is_shown_where_the_fewest_runs_are_missing(tmp_path: Path) -> None:
    data = [f"data{number}" for number in range(3)]
    near = [one for name in ("as_dfd", "random_tokens") for one in seeds(name, 0.5, data=data[0], student="near")]
    far = seeds("as_dfd", 0.5, data=data[0], student="far")
    claim = {"kind": "mean_beats", "strategy": "as_dfd", "over": "random_tokens", "data": data, "seeds": 2}
    for runs in (near + far, far + near):
        (said,) = judged(tmp_path, runs, **claim)
        assert (said.verdict, said.where) == ("not run", "g, near")


def test_what_a_claim_compares_with_is_missing_too(tmp_path: Path) -> None:
    near = [*seeds("prompt_rl", 0.5, 0.5, student="near"), *seeds("lm_prompt", 0.5, student="near")]
    far = [one for name in ("prompt_rl", FLOOR, CEILING) for one in seeds(name, 0.5, 0.5, student="far")]
    claim = {"kind": "mean_beats", "strategy": "prompt_rl", "over": "lm_prompt", "seeds": 2}
    for runs in (near + far, far + near):
        assert judged(tmp_path, runs, **claim)[0].where == "g, near"  # one run, where far lacks two
    (said,) = judged(tmp_path, near + far, kind="gap_closed", strategy="prompt_rl", share=0.5, seeds=3)
    assert said.where == "g, far"


def test_runs_of_two_budgets_cannot_be_held_against_a_claim(tmp_path: Path) -> None:
    longer = [made(name, 0.9, data="a") for name in ("as_dfd", "random_tokens")]
    for one in longer:
        one.content["config"]["train"]["steps"] = 999
    claim = {"kind": "beats", "strategy": "as_dfd", "over": "random_tokens", "at_least": 2, "data": ["a", "b", "c"]}
    (said,) = judged(tmp_path, [*RUNS, *longer], **claim)
    assert said.verdict == "not run" and "not run: a: 'as_dfd' 0 of" in said.numbers[-1]


def test_runs_without_test_data_say_nothing(tmp_path: Path) -> None:
    untested = [made("as_dfd", 0.9), made("random_tokens", 0.1)]
    for one in untested:
        one.content["student"]["correct"] = None
    (said,) = judged(tmp_path, untested, kind="mean_beats", strategy="as_dfd", over="random_tokens")
    assert said.verdict == "not run"


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ({"kind": "beat"}, "claims.0.: unknown kind 'beat'.*did you mean 'beats'"),
        ({"kind": "beats", "strategy": "x", "ovr": "y"}, "unknown key 'claims.0..ovr'.*did you mean 'over'.*valid: "),
        ({"kind": "beats", "strategy": "x", "over": "y", "at_least": "two"}, "'claims.0..at_least' has a wrong value"),
        ({"kind": "beats", "strategy": "x", "over": "y", "at_least": 0}, "'at_least' is out of range"),
        ({"kind": "beats", "strategy": [], "over": "y"}, "'strategy' is out of range"),
        ({"kind": "beats", "strategy": "x"}, "'over' is out of range"),
        ({"kind": "mean_beats", "strategy": "x"}, "'over' is out of range"),
        ({**LEVEL, "points": -1, "at_least": 0}, "'to' is out.*'points' is out.*'at_least' is out"),
        ({"kind": "order", "strategies": ["x"]}, "'strategies' is out of range.*two or more places"),
        ({"kind": "order", "strategies": ["x", 3]}, "'strategies' is out of range"),
        ({"kind": "gap_closed", "strategy": "x"}, "'share' is out of range"),
        ({"kind": "cheaper", "strategy": "x", "share": 0}, "'than' is out.*'share' is out"),
        ({"kind": "order", "strategies": ["x", "y"], "source": "", "seeds": 0}, "'source' is out.*'seeds' is out"),
    ],
)
def test_a_wrong_claim_is_refused(tmp_path: Path, claim: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        judged(tmp_path, [], **claim)


@pytest.mark.parametrize("text", ["clams: []", "claims: {a: 1}", "claims: []\nmore: 1"])
def test_a_file_without_claims_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match="holds no claims(?s:.*)claims: "):
        claims.read(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text("claims: [3, {kind: order, strategy: x}]")
    with pytest.raises(ConfigError, match=r"(?s)claims\[0\] is no claim.*claims\[1\]"):
        claims.read(tmp_path / "c.yaml")


def test_our_claims_are_about_runs_that_our_tables_ask_for() -> None:
    """A claim about a row that no table has would be 'not run' for ever."""
    found = claims.read(config.find_yaml("experiments/paper_tables", "claims"))
    assert {claim.ours for claim in found} == {True, False} and {claim.kind for claim in found} == set(KINDS)
    cells = {name: grids.planned(name) for name in config.available(grids.TABLES)}
    for claim in found:
        named = set(claim.names)
        if isinstance(claim, About):
            others = (getattr(claim, name, "") for name in ("over", "to", "than"))
            named |= {other for other in others if other}
        assert isinstance(claim, (About, Order)) and set(claim.grids or ()) <= set(cells)
        able = [
            name for name, planned in cells.items() if (claim.grids is None or name in claim.grids)
            and named <= {cell.strategy for cell in planned}
            and set(claim.data or ()) <= {cell.data for cell in planned}
            and all(claim.seeds <= 1 + max(c.seed for c in planned if c.strategy == one) for one in named)
        ]
        assert able, f"no table can tell: {claim.claim}"


def test_the_command_prints_verdicts_with_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for one in RUNS:
        keep(tmp_path / "results", one.content)
    values = {"claim": "A [b] holds", "source": "us", **MEAN, "strategy": "as_dfd"}
    OmegaConf.save({"claims": [values, {**values, "strategy": "cmi", "ours": True}]}, tmp_path / "mine.yaml")
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, "claims", "--file", "mine.yaml")
    printed = capsys.readouterr().out
    assert "A [b] holds (us)\n  holds so far (2 seeds)  g, small:" in printed
    assert "A [b] holds (our own goal)\n  not run  " in printed and "as_dfd 76.8 - random_tokens 60.0" in printed
    assert "2 claims; of the verdicts 1 holds, 1 not run; 1 of them on fewer than 3 seeds" in printed
    run(monkeypatch, "claims", "results", "--file", "mine.yaml", "--out", "claims.md")
    page = Path("claims.md").read_text()
    assert "Made by `dfkd claims results --file mine.yaml --out claims.md`" in page
    assert "| [1](#claim-1) | A [b] holds | us | 1 | – | – |" in page
    assert "| [2](#claim-2) | A [b] holds | our own goal | – | – | 1 |" in page
    assert "## Claim 1\n\nA [b] holds\n" in page and "| **holds so far (2 seeds)** | g, small | as_dfd 76.8" in page
    with pytest.raises(SystemExit):
        run(monkeypatch, "claims", "nowhere")
    assert "there is no folder 'nowhere'" in capsys.readouterr().err
