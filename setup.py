"""Builds the compiled core. HOOPFAST_BUILD chooses the preset: release (default), debug, sanitize.

"none" leaves it out: deploy/bootstrap.sh installs the dependencies that way, and the Makefile then builds it in place.
"""

import os
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

PRESETS: dict[str, tuple[list[str], list[str]]] = {
    "none": ([], []),
    "release": (["-O3", "-g", "-fno-plt"], []),
    "debug": (["-O1", "-g3", "-DHF_DEBUG=1"], []),
    "sanitize": (
        ["-O1", "-g3", "-DHF_DEBUG=1", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"],
        ["-fsanitize=address,undefined"],
    ),
}

preset = os.environ.get("HOOPFAST_BUILD", "release")
if preset not in PRESETS:
    raise SystemExit(f"HOOPFAST_BUILD={preset}: choose one of {', '.join(PRESETS)}")
compile_args, link_args = PRESETS[preset]

core = Extension(
    "hoopfast._wire",
    ["hoopfast/_wire.pyx"],
    depends=sorted(glob("hoopfast/_wire/*")),
    libraries=["ssl", "crypto"],
    extra_compile_args=["-std=gnu11", "-Wall", "-Wno-unused-function", *compile_args],
    extra_link_args=link_args,
    define_macros=[("HF_BUILD", f'"{preset}"'), ("CYTHON_TRACE", "0")],
    include_dirs=["hoopfast/_wire"],
)

setup(
    ext_modules=[] if preset == "none" else cythonize(
        [core],
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
        },
    )
)
