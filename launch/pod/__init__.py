"""Runs a command on all hosts of Cloud TPU slices, from asking for them to deleting them; see `launch/pod.sh`.

machines    v6e-16 -> what Google Cloud calls it, machines and all
request     what the user asks for, checked before anything is called
calls       a command line of another program: called, or printed by a dry run
backends/   queued resources (qr), Compute Engine (gce), Kubernetes (gke), behind one interface
hosts       a job on every host over ssh: what qr and gce share
checkout    the files of this checkout as an archive
jobs        what became of a job, host by host, and what that calls for
babysit     stays with a job until it is done, whatever becomes of its slices
"""
