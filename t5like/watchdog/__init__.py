"""A command that trains is two processes: one that trains, and one that watches it from outside.

The training process says through a pipe that it lives and what it is at; the watching one hands signals on to it, ends it
when a phase has lasted for longer than it may, and gives its exit code. On several hosts `t5like.hosts` has each of them
watched in this way, and puts together what the watchers see.
"""
