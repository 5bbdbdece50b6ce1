"""A pool of gloo processes for the tests of what several processes compute together."""

import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

PATIENCE = 120  # seconds; a call that hangs is a failure, not a wait


class Workers:
    """So many processes with a default group of them all; each runs what it is sent."""

    def __init__(self, count: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = mp.get_context("forkserver")  # what all need is imported once
        context.set_forkserver_preload(["lightning_fabric", "torch", "vicreg.objectives"])
        self.pipes: list[Connection] = []
        self.processes = []
        for rank in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, count, port, theirs), daemon=True)
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)

    def run(self, function: Callable[..., object], *arguments: object) -> list[object]:
        """``function(rank, *arguments)`` on every process; what each returned, or its exception raised."""
        for pipe in self.pipes:
            pipe.send((function, arguments))
        answers = []
        for rank, pipe in enumerate(self.pipes):
            if not pipe.poll(PATIENCE):
                self.stop()
                raise TimeoutError(f"process {rank} gave no answer in {PATIENCE} s")
            answers.append(pipe.recv())
        for rank, (failed, answer) in enumerate(answers):
            if failed:
                raise AssertionError(f"process {rank}:\n{answer}")
        return [answer for _, answer in answers]

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


def _serve(rank: int, count: int, port: int, pipe: Connection) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(count), "GROUP_RANK": "0"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((False, function(rank, *arguments)))
        except Exception:
            pipe.send((True, traceback.format_exc()))
