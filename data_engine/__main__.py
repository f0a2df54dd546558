"""`python -m data_engine kind=card samples=20000 seed=1 workers=2 out=data/train/card`: see --help.

Every worker process imports this module anew, so what the commands need (hydra, the readers of other formats) is not
imported with it.
"""

if __name__ == "__main__":
    from data_engine.actions import start

    start()
