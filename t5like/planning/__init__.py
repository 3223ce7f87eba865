"""What a compiled step costs on hardware that is not there: read from the compiler's output, in plain Python.

topologies   a name such as v5e-64 -> chips and how they are wired
hlo          the text of a compiled program -> computations and instructions
costs        an instruction -> operations and bytes of memory, and its time on a chip
kernels      the time of our own kernels, by their instruction bundles
collectives  an instruction that talks to other devices -> bytes, mesh axis, and its time on the wires
timeline     the program's schedule -> seconds of a step, with what runs at the same time
record       all of it -> a plan that is printed, saved and compared
"""
