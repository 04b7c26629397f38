"""Exceptions of ray_itl: a small tree whose messages name what is wrong and say what to do.

Every exception is built from one message string, so it survives pickling between processes.
"""


class RayItlError(Exception):
    """Base of every error that ray_itl raises on purpose."""


class InputError(RayItlError, ValueError):
    """Data a user handed over is unusable: names the file, row or column, and the remedy."""


class UnfinishedFileError(InputError):
    """A file of the pool is, it seems, still being written or replaced: names it. Trying again later helps."""


class ConfigError(RayItlError, ValueError):
    """An option has a value that cannot work: names the option, its value, and what is allowed."""


class RunDirectoryError(RayItlError):
    """A run or state directory cannot be written, read, or does not belong to this run."""


class StorageError(RayItlError):
    """Storage failed, was full, or did not answer: names the file. The same command continues once it is well."""


class BusyError(RayItlError):
    """Another live process holds what this one needs, or took it over: says which. Trying again later helps."""


class NumericalError(RayItlError, ArithmeticError):
    """Float64 arithmetic cannot carry out the request: names the quantity and the option to change."""


class DivergedError(NumericalError, ConfigError):
    """A training became NaN or infinite: names the step and the options. Trying again will not help, others may."""


class ShardError(RayItlError):
    """A shard of the pool failed and could not be rebuilt: names the shard, cause and knob."""


class NoRoomError(BusyError, ShardError):
    """Others hold the CPUs, GPUs or memory of the cluster that are needed: says how many. Trying later helps."""


class StaleShardError(RayItlError):
    """A shard lost its in-memory state (it was restarted): the pool must restore and resend."""


class TrainingError(RayItlError):
    """Workers of a fine-tuning failed or did not start: names the cause, the option, and how to go on."""


class CacheError(RayItlError):
    """The local cache of a shard's features cannot be written or read: names the file or folder, and the remedy."""


class LabelError(RayItlError):
    """A labelling function of the user's failed: names it, the round and the cause. The same command asks it again."""


class MissingExtraError(RayItlError, ImportError):
    """An optional library is not installed: names it, what needs it, and the command that installs it."""
