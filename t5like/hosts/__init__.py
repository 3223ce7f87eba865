"""Runs on several hosts: who takes part, who has joined, and what happens when one is lost.

`t5like pretrain` on each of several hosts is two processes there. The first, the watcher, never imports JAX: it finds the
other hosts, starts the second with the same command line, which trains, and ends it when any host is lost. So there is
always somebody to say which one it was, whether the training process hangs in a collective or was ended by JAX itself.

    host 0   watcher <-- pipe -- training          desk: a thread of host 0's watcher
                |                                  every watcher, its own too, tells it once in a while how far its
                + desk <---- sockets ----+         training process is; it answers with one verdict for all
                                         |
    host 1   watcher <-- pipe -- training

`find.py` reads the environment, `desk.py` calls the roll and judges, `watch.py` is the watcher, `member.py` what the
training process knows of all this.
"""
