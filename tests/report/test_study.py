"""What the page chooses to show first."""

from __future__ import annotations

from scifm.findings.study import Analysis
from scifm.report.study import Study, drawable
from scifm.report.study_errors import sources_figure


def curve(kind="few_shot", source="poisson", target="p1", size="small", method="all", counts=(4, 16)) -> dict:
    points = [{"num_samples": count, "median": 0.1} for count in counts]
    return {"kind": kind, "source": source, "target": target, "size": size, "method": method, "points": points}


def view_of(curves: list[dict], **entries: object) -> Study:
    tree = {
        "targets": [
            {"name": "p1", "system": "poisson", "label": "Poisson, anisotropy 5 to 10"},
            {"name": "h1", "system": "helmholtz"},
            {"name": "p2", "system": "poisson", "label": "Poisson, anisotropy 10 to 20"},
        ],
        "sources": [
            {"name": "mix", "systems": ["poisson", "helmholtz"], "num_pretrain_samples": 900},
            {"name": "poisson", "systems": ["poisson"], "label": "Poisson", "num_pretrain_samples": 100},
            {"name": "poisson-more", "systems": ["poisson"], "num_pretrain_samples": 800},
        ],
        "sizes": [{"name": "large", "num_params": 20}, {"name": "small", "num_params": 10}],
        "curves": curves,
    }
    return Study(Analysis.model_validate(tree | entries))


def test_the_main_size_has_most_points_and_among_equals_is_the_largest():
    assert view_of([curve(size="small"), curve(size="large", counts=(4,))]).main_size == "small"
    assert view_of([curve(size="small"), curve(size="large")]).main_size == "large"
    assert view_of([], sizes=[]).main_size is None


def test_the_main_source_is_the_specialist_with_most_samples_that_was_used():
    view = view_of([curve(source="mix"), curve(), curve(source="mix", target="h1")])
    first, second, third = view.analysis.targets
    assert view.main_sources[first.name] == "poisson"
    assert view.main_sources[second.name] == "mix"
    assert view.main_sources[third.name] is None
    both = view_of([curve(), curve(source="poisson-more")])
    assert both.main_sources["p1"] == "poisson-more"


def test_all_weights_is_the_main_method():
    view = view_of([curve(method="head"), curve(method="all")])
    assert (view.main_method, view.methods) == ("all", ("head", "all"))
    assert view_of([curve(method="head")]).main_method == "head"


def test_tasks_are_grouped_and_what_their_labels_share_is_said_once():
    poisson, helmholtz = view_of([]).groups
    assert (poisson.label, poisson.short_labels) == ("Poisson", ("anisotropy 5 to 10", "anisotropy 10 to 20"))
    assert (helmholtz.label, helmholtz.short_labels) == ("helmholtz", ("h1",))


def test_a_task_that_is_a_whole_system_is_headed_by_its_label():
    (group,) = view_of([], targets=[{"name": "new", "system": "fisher_kpp", "label": "Fisher–KPP"}]).groups
    assert (group.label, group.short_labels) == ("Fisher–KPP", ("",))


def test_sources_stand_side_by_side_where_a_task_has_several():
    assert sources_figure(view_of([curve(), curve(source="mix", target="h1")])) is None
    scratch = curve("from_scratch", source="", method="")
    figure = sources_figure(view_of([curve(source="mix"), curve(), curve(source="mix", target="h1"), scratch]))
    (panel,) = figure.panels
    assert (panel.group, panel.title) == ("Poisson", "anisotropy 5 to 10")
    assert [(one.label, one.x, one.line) for one in panel.series] == [
        ("mix", (4, 16), "solid"),
        ("poisson", (4, 16), "solid"),
        ("from scratch", (4, 16), "dashed"),
    ]
    assert len({one.place for one in panel.series}) == 3, "each has a color of its own"


def test_in_distribution_belongs_to_the_source():
    view = view_of(
        [
            curve("in_distribution", target="elsewhere", counts=(0,)),
            curve("zero_shot", target="p1", counts=(0,)),
            curve(target="p2"),
        ]
    )
    first, untouched, second = view.analysis.targets
    for target in (first, second):
        assert view.level_of("in_distribution", target) is not None
    assert view.level_of("zero_shot", first) is not None
    assert view.level_of("zero_shot", second) is None
    assert view.level_of("in_distribution", untouched) is None, "it is shown with no source"


def test_what_can_be_drawn():
    assert [drawable(v) for v in (None, float("nan"), float("inf"), 0.0, -1.0, 1e-9)] == [False] * 5 + [True]
