"""A stack changes the base as it says, for as long as it lasts, and nothing else."""

from __future__ import annotations

import random
import threading
from dataclasses import replace

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from personalization.adapters.adapter import Adapter, Description
from personalization.adapters.adapter_deltas import deltas_of, match_modules
from personalization.adapters.module_keys import ModuleKey, parameters_by_key
from personalization.bases.learned_embedding import (
    ExtendedEmbedding,
    extended_tokenizer,
    with_all_vectors,
)
from personalization.bases.unet import UNetBase
from personalization.errors import AdapterError, ConceptError, StackError
from personalization.sampling.generate import draw_each
from personalization.sampling.settings import Settings
from personalization.stacking.application import applied
from personalization.stacking.bake import merged
from personalization.stacking.interference import gram, suggest
from personalization.stacking.stack import COMBINATIONS, MAX_SLOTS, Slot, Stack
from tests.support import random_adapters, tiny

METHODS = ("lora", "loha", "lokr", "dora")


@pytest.fixture(scope="module")
def base() -> UNetBase:
    return tiny.base()


@pytest.fixture(scope="module")
def many() -> dict[str, Adapter]:
    return {method: random_adapters.make(method, seed=i) for i, method in enumerate(METHODS)}


def picture(base: UNetBase, prompt: str = "a photo of dog", steps: int = 2) -> bytes:
    return draw_each(base, [prompt], [3], Settings(steps=steps))[0].tobytes()


def state(base: UNetBase) -> dict[str, tuple[int, int, torch.Tensor]]:
    """Each parameter's identity, its storage's, and its values."""
    return {
        f"{name}.{key}": (id(p), p.data_ptr(), p.detach().clone())
        for name, module in base.modules.items()
        for key, p in module.named_parameters()
    }


def assert_same(before: dict, after: dict) -> None:
    assert before.keys() == after.keys()
    for key, (identity, pointer, values) in before.items():
        assert after[key][:2] == (identity, pointer), key
        assert torch.equal(after[key][2], values), key


@pytest.mark.parametrize("method", [*METHODS, "loha core", "lokr core", "lokr cut"])
def test_delta_is_what_peft_merges_into_linear_and_convolution(base: UNetBase, method: str) -> None:
    more = {
        "loha core": {"use_effective_conv2d": True},
        "lokr core": {"use_effective_conv2d": True, "decompose_both": True, "rank": 2},
        "lokr cut": {"decompose_factor": 4},
    }.get(method, {})
    pipe = tiny.pipeline()
    targets = random_adapters.ATTENTION + random_adapters.CONVOLUTIONS
    adapter = random_adapters.inject(pipe, method.split()[0], targets=targets, **more)
    found = match_modules(base.modules, adapter)
    assert len(found) == len(deltas_of(adapter)) > 40
    for weight, (place, change) in found.items():
        module = getattr(pipe, place.component)
        layer = module.get_submodule(place.path.removeprefix("text_model."))
        assert isinstance(layer, BaseTunerLayer)
        before = layer.get_base_layer().weight.detach().clone()
        layer.merge()
        expected = layer.get_base_layer().weight.detach() - before
        assert (change.delta(weight) - expected).norm() < 1e-5 * expected.norm(), place


@pytest.mark.parametrize("combine", COMBINATIONS)
def test_stack_at_weight_zero_draws_the_base_picture_bit_for_bit(
    base: UNetBase, many: dict[str, Adapter], combine: str
) -> None:
    slots = tuple(Slot(adapter, 0.0) for adapter in (*many.values(), random_adapters.word()))
    plain = picture(base, "a photo of <mug>")
    with applied(base, Stack(slots, combine)):
        assert picture(base, "a photo of <mug>") == plain


@pytest.mark.parametrize("combine", COMBINATIONS)
def test_leaving_restores_every_parameter_bit_for_bit(
    base: UNetBase, many: dict[str, Adapter], combine: str
) -> None:
    before, tokenizer = state(base), base.text_encoders[0].tokenizer
    table = base.text_encoders[0].model.get_input_embeddings()
    plain = picture(base)
    slots = tuple(Slot(adapter, 0.7) for adapter in (*many.values(), random_adapters.word()))
    with applied(base, Stack(slots, combine)):
        assert picture(base) != plain
        assert base.text_encoders[0].tokenizer is not tokenizer
    assert_same(before, state(base))
    assert base.text_encoders[0].tokenizer is tokenizer
    assert base.text_encoders[0].model.get_input_embeddings() is table
    assert picture(base) == plain


def test_a_thousand_random_enters_and_leaves_leave_no_trace(
    base: UNetBase, many: dict[str, Adapter]
) -> None:
    before = state(base)
    choose = random.Random(0)
    few = [
        random_adapters.cut(many["lora"], 2),
        random_adapters.cut(many["dora"], 3),
        random_adapters.word(),
    ]
    for _ in range(1000):
        slots = tuple(
            Slot(adapter, choose.uniform(-2, 2))
            for adapter in choose.sample(few, choose.randint(0, 3))
        )
        combine = choose.choice(list(COMBINATIONS))
        try:
            with applied(base, Stack(slots, combine)):
                if choose.random() < 0.3:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
    assert_same(before, state(base))


def test_weights_in_half_precision_are_restored_and_changed_once(many: dict[str, Adapter]) -> None:
    base = tiny.base()
    base.denoiser.half()
    weight, (_, change) = next(iter(match_modules(base.modules, many["lora"]).items()))
    before = weight.detach().clone()
    expected = (before.float() + 0.5 * change.delta(before)).half()
    with applied(base, Stack((Slot(many["lora"], 0.5),))):
        assert weight.dtype == torch.float16
        assert torch.equal(weight, expected)
    assert torch.equal(weight, before)


def test_sum_is_that_of_plain_matrices_with_negative_weights_and_unequal_ranks(
    base: UNetBase,
) -> None:
    first, second = (
        random_adapters.make(rank=2, alpha=3),
        random_adapters.make(rank=5, alpha=1, seed=1),
    )
    place = ModuleKey("unet", "mid_block.attentions.0.transformer_blocks.0.attn2.to_k")
    weight = parameters_by_key(base.modules)[place]
    expected = weight.detach().double()
    for adapter, w in ((first, 0.8), (second, -1.5)):
        up, down = (adapter.tensors[f"{place}.lora_{x}.weight"].double() for x in "BA")
        scale = adapter.description.alpha / adapter.description.rank
        expected = expected + w * scale * up @ down
    with applied(base, Stack((Slot(first, 0.8), Slot(second, -1.5)))):
        assert (weight.double() - expected).norm() < 1e-6 * expected.norm()


def test_dora_at_half_weight_is_half_way(base: UNetBase, many: dict[str, Adapter]) -> None:
    weight = next(iter(match_modules(base.modules, many["dora"])))
    before = weight.detach().clone()
    with applied(base, Stack((Slot(many["dora"], 1.0),))):
        whole = weight.detach().clone()
    with applied(base, Stack((Slot(many["dora"], 0.5),))):
        assert torch.allclose(weight, (before + whole) / 2, atol=1e-6)


def test_text_weight_and_block_weights_reach_their_parts_alone(
    base: UNetBase, many: dict[str, Adapter]
) -> None:
    lora = many["lora"]
    before = state(base)

    def touched(slot: Slot) -> set[str]:
        with applied(base, Stack((slot,))):
            after = state(base)
        return {key for key in before if not torch.equal(before[key][2], after[key][2])}

    everything = touched(Slot(lora, 1.0))
    text = {key for key in everything if key.startswith("text_encoder")}
    assert touched(Slot(lora, 1.0, text_weight=0.0)) == everything - text
    assert touched(Slot(lora, 0.0, text_weight=1.0)) == text
    only_mid = Slot(lora, text_weight=0.0, blocks={"down_blocks": 0.0, "up_blocks": 0.0})
    assert {key.split(".")[1] for key in touched(only_mid)} == {"mid_block"}
    finer = Slot(lora, text_weight=0.0, blocks={"mid_block": 0.0, "mid_block.attentions.0": 1.0})
    assert touched(finer) == everything - text


def test_two_threads_with_different_stacks_each_get_what_they_asked_for(
    base: UNetBase, many: dict[str, Adapter]
) -> None:
    stacks = [Stack(()), *(Stack((Slot(many[m], 0.9),)) for m in ("lora", "dora"))]
    expected = []
    for stack in stacks:
        with applied(base, stack):
            expected.append(picture(base))
    assert len(set(expected)) == len(stacks)
    drawn: dict[int, list[bytes]] = {i: [] for i in range(len(stacks))}

    def visit(i: int) -> None:
        for _ in range(2):
            with applied(base, stacks[i]):
                drawn[i].append(picture(base))

    visitors = [threading.Thread(target=visit, args=(i,)) for i in range(len(stacks))]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert all(set(drawn[i]) == {expected[i]} for i in drawn)


def test_an_adapter_that_does_not_fit_is_refused_by_counts_before_anything_is_touched(
    base: UNetBase, many: dict[str, Adapter]
) -> None:
    before = state(base)
    fits = random_adapters.cut(many["lora"], 2)
    renamed = {name.replace("to_k", "to_x"): tensor for name, tensor in fits.tensors.items()}
    wider = {
        name: torch.cat([tensor, tensor], 1) if "to_k.lora_A" in name else tensor
        for name, tensor in fits.tensors.items()
    }
    for tensors in (renamed, wider):
        stranger = Adapter(fits.description, tensors)
        with (
            pytest.raises(AdapterError, match="1 of its 2 modules match"),
            applied(
                base, Stack((Slot(many["lora"]), Slot(random_adapters.word()), Slot(stranger)))
            ),
        ):
            pytest.fail("was applied")
    assert_same(before, state(base))


def test_what_a_stack_refuses_it_names(base: UNetBase, many: dict[str, Adapter]) -> None:
    lora = many["lora"]
    word, other = random_adapters.word("<mug>"), random_adapters.word("<mug>", seed=1)
    narrow = replace(word, tensors={"<mug>": torch.zeros(1, 7)})
    for slots, error, sentence in (
        ((Slot(lora, 2.1),), StackError, "“lora-0” is 2.1; it must lie between -2 and 2"),
        ((Slot(lora, 1.5, blocks={"mid_block": 2.0}),), StackError, "is 3; it must"),
        ((Slot(lora, float("nan")),), StackError, "is nan; it must"),
        ((Slot(word), Slot(other)), StackError, "both define the word “<mug>”"),
        ((Slot(lora),) * (MAX_SLOTS + 1), StackError, "at most 8"),
        ((Slot(lora.described(family="flux")),), AdapterError, "was made for flux"),
        ((Slot(narrow),), AdapterError, "has 7 numbers to a vector, and this base reads 32"),
        ((Slot(random_adapters.word("a")),), ConceptError, "“a” exists already"),
    ):
        with pytest.raises(error, match=sentence), applied(base, Stack(slots)):
            pytest.fail(f"was applied: {sentence}")
    with pytest.raises(StackError, match="called “magic”"):
        Stack((Slot(lora),), "magic").check(base.spec)
    Stack((Slot(word), Slot(other, 0.0))).check(base.spec)  # a word at weight 0 is not there


def test_words_are_read_beside_each_other_and_gone_afterwards(base: UNetBase) -> None:
    one, two = random_adapters.word("<mug>", 2), random_adapters.word("<Cat>", 3, seed=1)
    encoder = base.text_encoders[0]
    plain = base.encode_prompts(["a <mug>"]).tensors["encoder_hidden_states"]
    table = encoder.model.get_input_embeddings()
    with applied(base, Stack((Slot(one), Slot(two, 0.3)))):
        ids = encoder.tokenizer("a <mug> <Cat>_2", add_special_tokens=False).input_ids
        first = table.num_embeddings
        assert ids[1:] == [first, first + 2 + 2]
        ids = encoder.tokenizer("<mug> <mug>_1 <Cat>_1 dog", add_special_tokens=False).input_ids
        rows = encoder.model.get_input_embeddings()(torch.tensor(ids))
        assert torch.equal(rows[:2], one.tensors["<mug>"])
        assert torch.equal(rows[2], two.tensors["<Cat>"][1])
        both = base.encode_prompts(["a <mug>", "a <mug> <mug>_1"]).tensors["encoder_hidden_states"]
        assert not torch.equal(both[:1], plain)
        assert (
            base.encode_prompts(["a <Cat> dog"]).tensors["encoder_hidden_states"].isfinite().all()
        )
    again = base.encode_prompts(["a <mug>"]).tensors["encoder_hidden_states"]
    assert torch.equal(again, plain)


def test_a_word_of_three_vectors_stands_in_the_prompt_as_three_tokens(base: UNetBase) -> None:
    plain = base.text_encoders[0].tokenizer
    tokenizer = extended_tokenizer(plain, "<Cat>", 3)
    for prompt in ("a <Cat>", "a <cat>"):
        expanded = with_all_vectors(prompt, tokenizer)
        ids = tokenizer(expanded, add_special_tokens=False).input_ids
        assert ids[1:] == [len(plain), len(plain) + 1, len(plain) + 2]


def test_gradients_of_an_extended_embedding_reach_the_new_rows_alone() -> None:
    table = torch.nn.Embedding(5, 3).requires_grad_(False)
    rows = torch.nn.Parameter(torch.randn(2, 3))
    extended = ExtendedEmbedding(table, rows)
    assert [name for name, _ in extended.named_parameters()] == ["rows"]
    ids = torch.tensor([[0, 5, 4], [6, 5, 1]])
    assert torch.equal(extended(ids), torch.cat([table.weight, rows])[ids])
    extended(ids).sum().backward()
    assert torch.equal(rows.grad, torch.tensor([[2.0] * 3, [1.0] * 3]))
    assert table.weight.grad is None


def test_switch_takes_the_adapters_in_turn_and_begins_anew_with_each_picture(
    base: UNetBase, many: dict[str, Adapter]
) -> None:
    pair = Stack(
        (Slot(many["lora"], text_weight=0.0), Slot(many["dora"], text_weight=0.0)), "switch"
    )
    latents, hidden = torch.randn(1, 4, 16, 16), torch.randn(1, 24, 32)

    def predict(t: int) -> torch.Tensor:
        return base.denoiser(latents, torch.tensor(t), hidden, return_dict=False)[0]

    with torch.inference_mode():
        alone = {}
        for slot in pair.slots:
            with applied(base, Stack((slot,))):
                alone[slot.name] = {t: predict(t) for t in (900, 600, 300)}
        with applied(base, pair):
            for _ in range(2):  # pictures
                for t, name in ((900, "lora-0"), (600, "dora-3"), (600, "dora-3"), (300, "lora-0")):
                    assert torch.equal(predict(t), alone[name][t])


def test_composite_draws_with_the_mean_of_the_guided_predictions(
    base: UNetBase, many: dict[str, Adapter]
) -> None:
    slots = tuple(Slot(many[m], 0.8, text_weight=0.0) for m in ("lora", "lokr", "dora"))
    latents, hidden = torch.randn(2, 4, 16, 16), torch.randn(2, 24, 32)
    with torch.inference_mode():
        guided = []
        for slot in slots:
            with applied(base, Stack((slot,))):
                without, given = base.denoiser(latents, 500, hidden).sample
                guided.append(without + 7.5 * (given - without))
        with applied(base, Stack(slots, "composite")):
            without, given = base.denoiser(latents, 500, hidden).sample
            pair = base.denoiser(latents, 500, hidden, return_dict=False)
        mean = without + 7.5 * (given - without)
    assert torch.allclose(mean, torch.stack(guided).mean(0), atol=1e-4)
    assert torch.equal(pair[0][0], without)


@pytest.mark.parametrize("combine", ["switch", "composite"])
def test_in_time_with_one_adapter_is_that_adapter(
    base: UNetBase, many: dict[str, Adapter], combine: str
) -> None:
    slots = (Slot(many["lora"]),)
    with applied(base, Stack(slots)):
        expected = picture(base, steps=3)
    with applied(base, Stack(slots, combine)):
        assert picture(base, steps=3) == expected


def test_suggested_weights_keep_the_sum_no_larger_than_the_strongest_alone(
    many: dict[str, Adapter],
) -> None:
    lora, other = many["lora"], random_adapters.make(seed=9)
    assert suggest(Stack(())) == ()
    assert suggest(Stack((Slot(lora, 0.7),))) == (0.7,)
    assert suggest(Stack((Slot(lora, 1.0), Slot(lora, 1.0)))) == (0.5, 0.5)
    assert suggest(Stack((Slot(lora, 1.0), Slot(lora, -1.0)))) == (1.0, -1.0)
    weights = suggest(Stack((Slot(lora, 1.0), Slot(other, 1.0))))
    assert weights == pytest.approx((0.7, 0.7), abs=0.05)
    table = gram([lora, other])
    w = torch.tensor(weights, dtype=torch.float64)
    assert float(w @ table @ w) <= 1.01 * float(table.diagonal().max())
    beside = suggest(Stack((Slot(lora, 1.0), Slot(random_adapters.word(), 0.9), Slot(lora, 1.0))))
    assert beside == (0.5, 0.9, 0.5)
    gentle = lora.described(strength=0.5)
    assert suggest(Stack((Slot(gentle, 1.0),))) == (0.5,)


def test_a_merged_sum_draws_as_the_stack_does_and_loses_nothing(
    base: UNetBase, many: dict[str, Adapter]
) -> None:
    convolution = random_adapters.make(seed=4, rank=2, targets=("conv1", "to_q"))
    word = random_adapters.word("<mug>", 2)
    slots = (
        Slot(many["lora"], 0.8, text_weight=0.3),
        Slot(convolution, -0.5),
        Slot(many["lokr"], 0.6),
        Slot(word),
    )
    result = merged(base, Stack(slots))
    assert result.residual == 0
    assert result.adapter.description.placeholder_token == "<mug>"
    with applied(base, Stack(slots)):
        expected = {key: values for key, (_, _, values) in state(base).items()}
        prompt = base.encode_prompts(["a <mug>"]).tensors["encoder_hidden_states"]
    with applied(base, Stack((Slot(result.adapter),))):
        for key, (_, _, values) in state(base).items():
            assert (values - expected[key]).norm() <= 1e-5 * expected[key].norm(), key
        again = base.encode_prompts(["a <mug>"]).tensors["encoder_hidden_states"]
    assert torch.allclose(again, prompt, atol=1e-4)


def test_a_merged_stack_cut_to_a_rank_states_what_was_lost(
    base: UNetBase, many: dict[str, Adapter]
) -> None:
    before = state(base)
    for combine, rank, methods in (("sum", 3, ["lora"]), ("ties", 6, ["lora", "dora"])):
        stack = Stack(tuple(Slot(many[m], 0.9) for m in methods), combine)
        result = merged(base, stack, rank=rank)
        assert all(
            t.shape[0] == rank
            for n, t in result.adapter.tensors.items()
            if n.endswith("lora_A.weight")
        )
        with applied(base, stack):
            whole = state(base)
        with applied(base, Stack((Slot(result.adapter),))):
            kept = state(base)
        lost = sum(float((whole[k][2] - kept[k][2]).square().sum()) for k in before)
        size = sum(float((whole[k][2] - before[k][2]).square().sum()) for k in before)
        assert 0.01 < result.residual < 1
        assert result.residual == pytest.approx((lost / size) ** 0.5, rel=1e-3)


def test_what_one_file_cannot_hold_is_not_merged(base: UNetBase, many: dict[str, Adapter]) -> None:
    words = (
        Slot(random_adapters.word("<a>")),
        Slot(random_adapters.word("<b>")),
        Slot(many["lora"]),
    )
    for stack, sentence in (
        (Stack(words), "two learned words"),
        (Stack(words[2:], "switch"), "“switch”, which is in time"),
        (Stack(words[:1]), "nothing to merge"),
    ):
        with pytest.raises(StackError, match=sentence):
            merged(base, stack)


def test_what_is_more_than_the_bases_precision_holds_is_refused() -> None:
    half = tiny.base()
    for module in half.modules.values():
        module.half()
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    burnt = {f"{name}.lora_A.weight": torch.full((4, 32), 150.0)}
    burnt |= {f"{name}.lora_B.weight": torch.full((32, 4), 150.0)}
    lora = Adapter(Description("lora", "tiny", title="burnt", rank=4, alpha=4.0), burnt)
    described = Description("textual_inversion", "tiny", placeholder_token="<w>")
    word = Adapter(described, {"<w>": torch.full((1, 32), 1e5)})
    for adapter, sentence in (
        (lora, "“burnt” changes .*to_k by more than float16 holds"),
        (word, "numbers that float16 cannot hold"),
    ):
        with pytest.raises(AdapterError, match=sentence), applied(half, Stack((Slot(adapter),))):
            pass
    with applied(half, Stack((Slot(lora, 0.01),))):
        assert all(p.isfinite().all() for p in half.denoiser.parameters())
