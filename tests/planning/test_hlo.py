"""Compiled programs are read as they are: shapes, memory spaces, loops, and the order of what runs."""

import jax
import jax.numpy as jnp
import pytest

from t5like.planning.hlo import HBM, VMEM, Array, parse

TEXT = """
HloModule jit_f, is_scheduled=true

%body (state.1: (s32[], bf16[12,8,128])) -> (s32[], bf16[12,8,128]) {
  %state.1 = (s32[]{:T(128)}, bf16[12,8,128]{2,1,0:T(8,128)(2,1)}) parameter(0)
  %counter = s32[]{:T(128)} get-tuple-element(%state.1), index=0
  %stack = bf16[12,8,128]{2,1,0:T(8,128)(2,1)} get-tuple-element(%state.1), index=1
  %two = s32[]{:T(128)} constant(2)
  %next = s32[]{:T(128)} add(%counter, %two)
  ROOT %again = (s32[]{:T(128)}, /*index=1*/bf16[12,8,128]{2,1,0:T(8,128)(2,1)}) tuple(%next, %stack)
}

%condition (state.2: (s32[], bf16[12,8,128])) -> pred[] {
  %bound = s32[]{:T(128)} constant(12)
  %state.2 = (s32[]{:T(128)}, bf16[12,8,128]{2,1,0:T(8,128)(2,1)}) parameter(0)
  %at = s32[]{:T(128)} get-tuple-element(%state.2), index=0
  ROOT %goes_on = pred[]{:T(512)} compare(%at, %bound), direction=LT
}

ENTRY %main (x: bf16[12,8,128]) -> bf16[12,8,128] {
  %x = bf16[12,8,128]{2,1,0:T(8,128)(2,1)} parameter(0), metadata={op_name="x (of the user)"}
  %first = s32[]{:T(128)} constant(2)
  %near = bf16[8,128]{1,0:T(8,128)(2,1)S(1)} broadcast(%first), dimensions={}
  %state = (s32[]{:T(128)}, bf16[12,8,128]{2,1,0:T(8,128)(2,1)}) tuple(%first, %x)
  %loop = (s32[]{:T(128)}, bf16[12,8,128]{2,1,0:T(8,128)(2,1)}) while(%state), condition=%condition, body=%body
  ROOT %out = bf16[12,8,128]{2,1,0:T(8,128)(2,1)} get-tuple-element(%loop), index=1
}
"""


def test_instructions_have_their_shapes_memories_and_operands():
    program = parse(TEXT)
    assert set(program.computations) == {"body", "condition", "main"}
    entry = program.entry
    assert [i.opcode for i in entry.instructions] == [
        *("parameter", "constant", "broadcast", "tuple", "while", "get-tuple-element"),
    ]
    assert entry.arrays_of("x") == (Array("bf16", (12, 8, 128), HBM),)
    assert entry.arrays_of("near") == (Array("bf16", (8, 128), VMEM),)
    assert entry.arrays_of("near")[0].num_bytes == 2048
    assert entry.by_name["state"].operands == ("first", "x")
    assert entry.root.name == "out"
    assert [user.name for user in entry.users["first"]] == ["near", "state"]
    assert [len(program.computations[name].root.arrays) for name in ("body", "condition")] == [2, 1]


def test_a_loop_runs_from_its_start_to_its_bound_in_its_steps():
    program = parse(TEXT)
    loop = program.entry.by_name["loop"]
    assert program.trips(loop, program.entry) == 5  # 2, 4, 6, 8, 10
    assert parse(TEXT.replace("constant(12)", "constant(13)")).trips(loop, program.entry) == 6
    faster = parse(TEXT.replace("%two = s32[]{:T(128)} constant(2)", "%two = s32[]{:T(128)} constant(5)"))
    assert faster.trips(faster.entry.by_name["loop"], faster.entry) == 2


def test_a_loop_without_a_constant_bound_is_refused():
    program = parse(
        TEXT.replace("%bound = s32[]{:T(128)} constant(12)", "%bound = s32[]{:T(128)} negate(%at)")
    )
    with pytest.raises(ValueError, match="no comparison with a constant"):
        program.trips(program.entry.by_name["loop"], program.entry)


def test_a_text_that_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        parse("HloModule nothing\n")


def test_the_loops_of_a_compiled_program_run_as_often_as_they_were_written():
    def f(x):
        return jax.lax.scan(lambda carry, row: (jnp.tanh(carry @ carry + row), None), x, jnp.ones((7, 4, 4)))[
            0
        ]

    program = parse(jax.jit(f).lower(jnp.ones((4, 4))).compile().as_text())
    loops = [
        (instruction, computation)
        for computation in program.computations.values()
        for instruction in computation.instructions
        if instruction.opcode == "while"
    ]
    assert [program.trips(*loop) for loop in loops] == [7]
