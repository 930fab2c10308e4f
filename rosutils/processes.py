"""Worker processes for runs, decoding and notebooks: they end with the command that began them, and it alone is interrupted."""

import os
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

from joblib.externals.loky import ProcessPoolExecutor, process_executor
from joblib.externals.loky.backend.utils import kill_process_tree
from joblib.externals.loky.process_executor import BrokenProcessPool
from tqdm import tqdm

from rosutils import RunError


ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
# glibc gives memory back after each layer and gets it again, empty, for the next: up to a tenth of a step's time
KEPT_MEMORY = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(2**30))


@contextmanager
def processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """So many processes with one thread of arithmetic each, gone with all that they started when the block ends.

    Raises RunError where one of them was killed, as the system does where memory ends.
    """
    pool = ProcessPoolExecutor(count, env=ONE_THREAD | KEPT_MEMORY, initializer=_prepare, initargs=(os.getpid(),))
    try:
        with _undisturbed():
            pool.submit(int)
        yield pool
    except BrokenProcessPool as error:
        how = ", ".join(sorted(set(re.findall(r"SIG[A-Z]+|EXIT\(\d+\)", str(error))))) or type(error).__name__
        raise RunError(
            f"a worker process ended in the midst of its work ({how}); is there too little memory? What is finished is kept: "
            "the same command goes on from there, and with a smaller engine.workers it needs less"
        ) from None
    finally:
        for process in list(pool._processes.values()):  # loky's own way to kill them stumbles over jobs that wait
            kill_process_tree(process)
        pool.shutdown()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals wait until the block ends; a process that is started in it never sees Ctrl-C, which a terminal sends to all."""
    resource_tracker.ensure_running()  # started meanwhile, it would lift the mask
    held: list[int] = []
    here = threading.current_thread() is threading.main_thread()  # a mask is a thread's own: others may still be told
    before = {n: signal.signal(n, lambda n, _: held.append(n)) for n in (signal.SIGINT, signal.SIGTERM) if here}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited, from a child's first moment on
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in held:
            signal.raise_signal(number)


def _prepare(parent: int) -> None:
    """End this process within a second of its parent's end, however that came; leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process_executor._USE_PSUTIL = False  # or it takes growth by 300 MB for a leak, starts another process, and warns
    # tqdm's own lock is a semaphore, which a process that is killed leaves behind, with a warning
    tqdm.set_lock(threading.RLock())

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)  # in the midst of a job: nothing else ends a thread that computes

    threading.Thread(target=watch, daemon=True).start()


def mapped(function: Callable, jobs: Iterable[tuple], count: int) -> Iterator[Any]:
    """`function(*job)` of every job in order, from so many processes; they are not far ahead of who takes the results."""
    if count == 1:
        yield from (function(*job) for job in jobs)
        return
    ahead: deque = deque()
    with processes(count) as pool:
        for job in jobs:
            ahead.append(pool.submit(function, *job))
            if len(ahead) > 2 * count:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
