"""The systems that quieten grew out of, measured again: their published figures beside ours.

One module for each of them; `clips` makes the sounds and `rows` sums the scores up.
"""
