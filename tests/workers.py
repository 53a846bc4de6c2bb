"""What runs in another process, which finds it by its name."""

import os
import threading
import time


def note(path, word, seconds):
    """What notes its turn in a file, and takes its time."""

    def turn():
        with open(path, 'a') as file:
            file.write(f'{word} {os.getpid()}\n')
        time.sleep(seconds)

    return turn


def spin():
    """A runtime whose thread never rests."""
    threading.Thread(target=lambda: all(iter(int, 1)), daemon=True).start()
    return lambda: None


def broken():
    raise ImportError('no such runtime')


def dying():
    return lambda: os._exit(3)
