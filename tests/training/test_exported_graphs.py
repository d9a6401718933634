"""What a crafted graph must not do, and what a network of no use is told."""

import json

import pytest
import torch
from torch import nn

from app.errors import Malformed, TooLarge
from tests.training.programs import (
    CLASSES,
    GRAPH,
    SHAPE,
    WEIGHTS,
    Residual,
    edit,
    edit_json,
    export,
    load,
    with_expression,
)


def graph_of(model):
    return model["graph_module"]["graph"]


def node_of(model, target):
    return next(node for node in graph_of(model)["nodes"] if target in node["target"])


def specs_of(model):
    return model["graph_module"]["signature"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda model: model["schema_version"].update(major=9), "schema 9"),
        (lambda model: model.pop("schema_version"), "schema_version"),
        (lambda model: node_of(model, "linear").update(target="torch.ops.aten.rand.default"), "not on the list"),
        (lambda model: node_of(model, "linear").update(target="torch.ops.evil.op.default"), "not on the list"),
        (lambda model: node_of(model, "linear").update(target="os.system"), "not on the list"),
        (lambda model: node_of(model, "linear").update(target="torch.ops.aten.linear.__class__"), "not on the list"),
        (lambda model: node_of(model, "linear").update(target="xtorch.ops.aten.linear.default"), "not on the list"),
        (lambda model: node_of(model, "linear").update(target="torch.ops.aten.linear_.default"), "has no operation"),
        (lambda model: node_of(model, "linear").update(target="torch.ops.aten.sym_size_.int"), "has no operation"),
        (lambda model: graph_of(model)["nodes"].reverse(), "not computed before it"),
        (lambda model: graph_of(model)["nodes"].append(graph_of(model)["nodes"][-1]), "twice"),
        (lambda model: node_of(model, "linear")["inputs"].append(node_of(model, "linear")["inputs"][0]), "twice"),
        (lambda model: node_of(model, "linear")["inputs"][0].update(name="other"), "no argument|lacks"),
        (lambda model: node_of(model, "linear")["inputs"].clear(), "lacks its argument"),
        (lambda model: node_of(model, "linear")["inputs"][0].update(arg={"as_int": 3}), "does not run"),
        (lambda model: node_of(model, "linear")["inputs"][0].update(arg={"as_graph": {}}), "as_graph"),
        (lambda model: node_of(model, "linear")["inputs"][0].update(arg={"as_operator": "os.system"}), "as_operator"),
        (lambda model: node_of(model, "linear")["inputs"][0].update(arg={"as_custom_obj": {}}), "as_custom_obj"),
        (lambda model: node_of(model, "linear")["inputs"][0]["arg"].update(as_int=1), "exactly one kind"),
        (lambda model: node_of(model, "linear")["outputs"].clear(), "without a result"),
        (lambda model: graph_of(model).update(custom_obj_values={"x": 1}), "custom_obj_values"),
        (lambda model: specs_of(model)["input_specs"].pop(), "not those of its signature"),
        (lambda model: specs_of(model)["input_specs"][0].update(custom_obj={}), "exactly one kind"),
        (lambda model: specs_of(model)["output_specs"].append({"buffer_mutation": {}}), "changes nothing"),
        (
            lambda model: specs_of(model)["input_specs"][0]["parameter"].update(parameter_name="forward"),
            "lacks the values",
        ),
        (lambda model: node_of(model, "batch_norm")["inputs"][3]["arg"]["as_tensor"].update(name="x"), "not buffers"),
        (lambda model: node_of(model, "relu_")["inputs"][0]["arg"]["as_tensor"].update(name="x"), "writes in place"),
        (
            lambda model: node_of(model, "relu_")["inputs"][0]["arg"]["as_tensor"].update(name="p_stem_bias"),
            "writes in place",
        ),
    ],
)
def test_a_graph_that_does_more_than_compute_is_refused(program, change, reason):
    with pytest.raises(Malformed, match=reason):
        load(edit_json(program, GRAPH, change))


@pytest.mark.parametrize(
    "name",
    [
        *("forward", "training", "a..b", "_parameters.x", "__class__", "x/y", "stem.weight.more", "a." * 40 + "b"),
        *("_graph", "_layers", "_sources", "_graph.x", "_layers.x", "_sources.x"),
    ],
)
def test_a_tensor_with_the_name_of_something_else_is_refused(program, name):
    def change(members):
        for member, path in ((GRAPH, None), (WEIGHTS, "config")):
            value = json.loads(members[member])
            if path is None:
                spec = next(
                    s
                    for s in specs_of(value)["input_specs"]
                    if s.get("parameter", {}).get("parameter_name") == "head.bias"
                )
                spec["parameter"]["parameter_name"] = name
            else:
                value[path][name] = value[path].pop("head.bias")
            members[member] = json.dumps(value).encode()

    with pytest.raises(Malformed, match="called"):
        load(edit(program, change))


@pytest.mark.parametrize("long", [{"as_string": "x" * 100}, {"as_ints": [1] * 4096}, {"as_floats": [0.5]}])
def test_words_and_lists_are_not_multiplied(program, long):
    def change(model):
        arguments = (("a", long), ("b", {"as_int": 10}))
        inputs = [{"name": name, "arg": value, "kind": 1} for name, value in arguments]
        outputs = [{"as_sym_int": {"as_name": "longer"}}]
        graph_of(model)["nodes"].insert(0, {"target": "_operator.mul", "inputs": inputs, "outputs": outputs})

    with pytest.raises(Malformed, match="only integers are calculated with"):
        load(edit_json(program, GRAPH, change))


class Bare(nn.Module):
    """A classifier with something odd in it."""

    def __init__(self, odd):
        super().__init__()
        self.odd, self.head = odd, nn.Linear(64, CLASSES)

    def forward(self, x):
        return self.odd(x, self.head(x.flatten(1)))


ODD = {
    "a random number": (lambda x, y: y + torch.rand(1), "not on the list"),
    "two outputs": (lambda x, y: (y, y), "returns one tensor"),
    "no logits": (lambda x, y: y.sum(1), "not float32 logits"),
    "too many classes": (lambda x, y: torch.cat([y, y], 1), "not float32 logits"),
    "another type": (lambda x, y: y.round().to(torch.int64), "not float32 logits"),
    "its input changed": (lambda x, y: y + x.mul_(2).sum(), "changes nothing|writes in place"),
    "a view written to": (lambda x, y: (y.view(-1).add_(1), y)[1], "writes in place"),
    "a part written to": (lambda x, y: (y[:, 0].zero_(), y)[1], "not on the list|writes in place"),
    "half precision": (lambda x, y: y.half().float(), "element type"),
    "rows mixed up": (lambda x, y: y[:1], "not float32 logits"),
    "a huge tensor": (lambda x, y: y + torch.ones(10**6, 10**6).sum(), "makes a tensor"),
    "a huge view": (lambda x, y: y + torch.ones(1, 1).expand(10**6, 10**6).sum(), "makes a tensor"),
    "a huge repetition": (lambda x, y: y + torch.ones(10).repeat(10**6, 10**5).sum(), "makes a tensor"),
    "a huge range": (lambda x, y: y + torch.arange(10**12).sum(), "makes a tensor"),
    "a huge image": (lambda x, y: y + nn.functional.interpolate(x, (10**5, 10**5)).mean((1, 2, 3))[:, None], "makes"),
    "a huge border": (lambda x, y: y + nn.functional.pad(x, (10**6,) * 4).mean((1, 2, 3))[:, None], "makes a tensor"),
    "many pieces": (lambda x, y: y + torch.ones(100_000).split(50_000)[0].sum(), "pieces"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_a_network_that_is_no_plain_classifier_is_told_why(tmp_path, name):
    odd, reason = ODD[name]
    with pytest.raises((Malformed, TooLarge), match=reason):
        load(export(Bare(odd).eval(), tmp_path / "program.pt2"))


def test_a_size_that_grows_faster_than_the_batch_is_refused_whatever_the_file_says_of_it(tmp_path):
    def odd(x, y):
        return y + torch.ones(1).expand(x.shape[0] * x.shape[0] * x.shape[0] * x.shape[0] * 16).sum()

    crafted = with_expression(export(Bare(odd).eval(), tmp_path / "program.pt2"), "s77")
    with pytest.raises(TooLarge, match="makes a tensor"):
        load(crafted)


def decomposed(path):
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(Residual().eval(), (torch.zeros(2, *SHAPE),), dynamic_shapes=shapes)
    torch.export.save(program.run_decompositions(), path)
    return path


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own, while it decomposes
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: export(Residual().eval(), path, is_dynamic=False), "dynamic batch dimension"),
        (lambda path: export(Residual().eval(), path, (1, 16, 16)), "takes inputs of the shape"),
        (decomposed, "without decompositions"),
    ],
)
def test_an_export_of_another_kind_is_told_how_to_export(tmp_path, make, reason):
    with pytest.raises(Malformed, match=reason):
        load(make(tmp_path / "program.pt2"))


def test_a_custom_operator_is_refused(tmp_path):
    with torch.library._scoped_library("trapstreet_test", "DEF") as library:
        library.define("double(Tensor x) -> Tensor")
        library.impl("double", lambda x: x * 2, "CompositeExplicitAutograd")
        library.impl("double", torch.empty_like, "Meta")
        path = export(
            Bare(lambda x, y: y + torch.ops.trapstreet_test.double(x).mean((1, 2, 3))[:, None]), tmp_path / "p.pt2"
        )
        with pytest.raises(Malformed, match="not on the list"):
            load(path)
