"""Operations of products in every form they take, and the bytes that go to memory and come from it."""

import pytest

from t5like.chips import CHIPS
from t5like.planning.costs import Cost, Costs
from t5like.planning.hlo import parse

V5E = next(chip for chip in CHIPS if chip.name == "v5e")


def program_of(*lines, computations=""):
    """Returns a program whose entry has these lines."""
    body = "\n".join(f"  {line}" for line in lines)
    return parse(f"HloModule m\n\n{computations}\nENTRY %main () -> f32[] {{\n{body}\n}}\n")


def cost_of(program, name):
    return Costs(program).of(program.entry.by_name[name], program.entry)


@pytest.mark.parametrize(
    ("left", "right", "result", "attributes", "products"),
    [
        # [32, 512, 768] x [768, 2048]
        (
            *("bf16[32,512,768]", "bf16[768,2048,1]", "bf16[32,512,2048]"),
            "window={size=1}, dim_labels=0bf_io0->0bf",
            32 * 512 * 768 * 2048,
        ),
        # [228, 32] x [32, 12], both transposed
        ("f32[12,32]", "f32[32,228]", "f32[12,228]", "dim_labels=bf_io->bf", 12 * 32 * 228),
        # [4, 6, 10, 8] x [4, 6, 8, 12], batched over the first two: by holes between the elements of the left
        (
            *("bf16[4,6,10,8]", "bf16[4,6,12,8]", "bf16[4,6,10,12]"),
            "window={size=4x6 stride=3x5 lhs_dilate=4x6}, dim_labels=01bf_01oi->01bf",
            4 * 6 * 10 * 12 * 8,
        ),
        # [32, 114, 768] x [768, 12 x 64], heads apart in the result: by padding
        (
            *("bf16[32,114,1,768]", "bf16[768,12,64,1]", "bf16[32,114,12,64]"),
            "window={size=1x12 pad=0_0x11_11 rhs_reversal=0x1}, dim_labels=0b1f_i1o0->0b1f",
            32 * 114 * 768 * 12 * 64,
        ),
        # the gradient of a kernel: [32 x 512, 768] transposed x [32 x 512, 64], the rows of the window summed
        (
            *("bf16[32,768,512]", "bf16[32,512,64]", "bf16[768,64,1]"),
            "window={size=32}, dim_labels=0bf_0io->bf0",
            768 * 64 * 32 * 512,
        ),
    ],
)
def test_a_convolution_has_the_operations_of_the_product_it_stands_for(
    left, right, result, attributes, products
):
    program = program_of(
        f"%left = {left}{{}} parameter(0)",
        f"%right = {right}{{}} parameter(1)",
        f"ROOT %out = {result}{{}} convolution(%left, %right), {attributes}",
    )
    assert cost_of(program, "out").flops == 2 * products


def test_a_dot_sums_over_what_is_contracted():
    program = program_of(
        "%left = f32[8,16,32]{2,1,0} parameter(0)",
        "%right = f32[8,32,4]{2,1,0} parameter(1)",
        "ROOT %out = f32[8,16,4]{2,1,0} dot(%left, %right), lhs_batch_dims={0}, lhs_contracting_dims={2}",
    )
    assert cost_of(program, "out") == Cost(2 * 8 * 16 * 4 * 32, 4 * (8 * 16 * 32 + 8 * 32 * 4 + 8 * 16 * 4))


FUSED = """
%fused (p0: f32[12,64], p1: s32[], p2: f32[12,64], p3: f32[64]) -> (f32[12,64], f32[64]) {
  %p0 = f32[12,64]{1,0} parameter(0)
  %p1 = s32[]{} parameter(1)
  %layer = f32[1,64]{1,0} dynamic-slice(%p0, %p1, %p1), dynamic_slice_sizes={1,64}
  %p2 = f32[12,64]{1,0} parameter(2)
  %p3 = f32[64]{0} parameter(3)
  %sum = f32[1,64]{1,0} add(%layer, %layer)
  %row = f32[64]{0} bitcast(%sum)
  %put = f32[12,64]{1,0} dynamic-update-slice(%p2, %sum, %p1, %p1)
  %kept = f32[64]{0} multiply(%row, %p3)
  ROOT %both = (f32[12,64]{1,0}, f32[64]{0}) tuple(%put, %kept)
}
"""


def test_a_fusion_moves_the_slices_it_takes_and_puts_and_nothing_that_is_on_the_core():
    lines = (
        "%stack = f32[12,64]{1,0} parameter(0)",
        "%i = s32[]{:S(1)} parameter(1)",
        "%grads = f32[12,64]{1,0} parameter(2)",
        "%scale = f32[64]{0:S(1)} parameter(3)",
        "%out = (f32[12,64]{1,0}, f32[64]{0:S(1)}) fusion(%stack, %i, %grads, %scale), kind=kLoop, calls=%fused",
    )
    program = program_of(*lines, computations=FUSED)
    assert cost_of(program, "out").num_bytes == 64 * 4 + 64 * 4  # a row read, a row put
    far = program_of(*(line.replace(":S(1)", "") for line in lines), computations=FUSED)
    assert cost_of(far, "out").num_bytes == 2 * 64 * 4 + 2 * 64 * 4 + 4


def test_what_only_gives_a_name_is_free():
    program = program_of(
        "%x = f32[1024]{0} parameter(0)",
        "%y = f32[32,32]{1,0} bitcast(%x)",
        "%z = (f32[32,32]{1,0}, f32[1024]{0}) tuple(%y, %x)",
        "ROOT %w = f32[1024]{0} get-tuple-element(%z), index=1",
    )
    assert all(cost_of(program, name) == Cost() for name in "xyzw")


def kernel_call(name):
    return program_of(
        "%x = bf16[8,128]{1,0} parameter(0)",
        'ROOT %y = bf16[8,128]{1,0} custom-call(%x), custom_call_target="tpu_custom_call", '
        f'metadata={{op_name="jit(f)/{name}"}}, backend_config={{"custom_call_config":{{"body":"x",'
        '"cost_estimate":{"flops":"4096","transcendentals":"524288","bytes_accessed":"1"}}}',
    )


def test_a_kernel_costs_what_it_says_and_takes_what_its_bundles_do():
    cost = cost_of(kernel_call("flash_forward"), "y")
    assert cost == Cost(4096.0, 2 * 2 * 8 * 128, "flash_forward", 524288.0)
    assert cost.seconds(V5E) == pytest.approx(2 * 1250 / 1.5e9)  # two blocks of 512 x 512
    other = cost_of(kernel_call("somebody_elses"), "y")
    assert other == Cost(4096.0, 2 * 2 * 8 * 128, None, 524288.0)
    assert other.seconds(V5E) == 2 * 2 * 8 * 128 / V5E.memory_bytes_per_second


def test_time_is_the_longer_of_computing_and_moving():
    assert Cost(V5E.peak_flops, 0.0).seconds(V5E) == 1.0
    assert Cost(V5E.peak_flops, 3 * V5E.memory_bytes_per_second).seconds(V5E) == 3.0
