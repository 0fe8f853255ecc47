"""IMDb, opinions in long reviews: teachers, pools of pseudo data, and the rows of the tables, at a scale.

    python experiments/imdb.py --scale smoke            # a minute: made-up sentences, tiny random models
    python experiments/imdb.py --scale cpu --workers 2  # hours on two cores: a bert-tiny teacher
    python experiments/imdb.py --scale paper            # one GPU: BERT-base, students of 6 and 4 layers, GPT-2
"""

from __future__ import annotations

from dfkd import experiment

if __name__ == "__main__":
    experiment.script("imdb", "IMDb: teachers, pools and tables at a scale; what is finished is reused.")
