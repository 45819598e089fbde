"""The limits of this process: open files, and how often Python collects garbage."""

import gc

MOST_CONNECTIONS = 4096
"""Connections of the front door at the same time; each takes about 10 KB."""

OTHER_FILES = 128
"""File descriptors for everything else: the metrics listener, the store, pipes, libraries."""

_FEWEST_CONNECTIONS = 16
_OBJECTS_BEFORE_COLLECTION = 10_000


def most_connections() -> int:
    """The number of connections that a front door may have, after raising the limit of open files of this process.

    Each connection needs a second descriptor, for the server that is asked on its behalf.
    """
    try:
        import resource  # noqa: PLC0415 - Windows has none
    except ImportError:
        return MOST_CONNECTIONS
    given, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS reports no limit, but grants only about 10,000.
    most_files = 2 * MOST_CONNECTIONS + OTHER_FILES if allowed == resource.RLIM_INFINITY else allowed
    if given != resource.RLIM_INFINITY and given < most_files:
        # The default of a shell is low for programs that use select().
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, allowed))
    return max(_FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, (most_files - OTHER_FILES) // 2))


def relax_garbage_collection() -> None:
    """Collect garbage rarely, and never among the objects that exist now, such as modules.

    A request leaves no reference cycles behind. At its default threshold of 700 objects Python would run the collector
    whenever a few exchanges are in flight, and scan all objects from time to time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION)
