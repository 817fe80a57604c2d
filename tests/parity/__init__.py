"""Is every tensor of a golden folder reproduced? `python -m parity FOLDER` works on any folder of that format.

Sizes, head counts, steps and settings come from the folder's own JSON; a case's own meta outranks `settings`, which
outranks `train_args_base`. Every tensor is an input of a check or compared by one; any other makes the run fail.
"""
