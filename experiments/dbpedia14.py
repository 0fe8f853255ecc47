"""DBPedia-14, fourteen kinds of things: teachers, pools of pseudo data, and the rows of the tables, at a scale.

    python experiments/dbpedia14.py --scale smoke            # a minute: made-up sentences, tiny random models
    python experiments/dbpedia14.py --scale cpu --workers 2  # hours on two cores: a bert-tiny teacher
    python experiments/dbpedia14.py --scale paper            # one GPU: BERT-base, students of 6 and 4 layers, GPT-2
"""

from __future__ import annotations

from dfkd import experiment

if __name__ == "__main__":
    experiment.script("dbpedia14", "DBPedia-14: teachers, pools and tables at a scale; what is finished is reused.")
