"""Executes the chapters several at a time, one a core, into the cache from which the book is then built.

    python book/_ext/execute.py

The build itself executes them one after the other, in the same folders and with the same time limit; it
finds what is done here, and executes what is missing. A chapter that failed is not kept: the build meets
its error again, and stops. Where others run beside it a chapter takes longer, so the times in the
published pages come from a build without this.
"""

import logging

import yaml
from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor
from plain import ROOT, chapters


def main():
    timeout = yaml.safe_load((ROOT / "_config.yml").read_text())["execute"]["timeout"]
    cache = get_cache(ROOT / "_build" / ".jupyter_cache")
    added = [cache.add_nb_to_project(str(path)).pk for path in chapters()]
    log = logging.getLogger("chapters")
    log.setLevel(logging.WARNING)
    load_executor("local-parallel", cache, logger=log).run_and_cache(filter_pks=added, timeout=timeout)


if __name__ == "__main__":
    main()
