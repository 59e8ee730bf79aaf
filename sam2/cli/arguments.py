"""What the verbs' arguments have in common. Light: imported for `sam2 --help`."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from sam2.formats.registry import FORMATS, find


class Parser(argparse.ArgumentParser):
    """Errors are one line, like all others of the command."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"sam2: error: {_with_suggestion(message)} (see {self.prog} --help)\n")


def _with_suggestion(message: str) -> str:
    """argparse's message about a wrong choice, with the nearest right one."""
    match = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
    if match is None:
        return message
    return message + nearest(match[1], re.findall(r"[\w.-]+", match[2]))


def nearest(name: str, known: Sequence[str]) -> str:
    """`"; did you mean 'x'?"`, or an empty string."""
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def join_negative_values(argv: Sequence[str]) -> list[str]:
    """`--point -5,3` as `--point=-5,3`: argparse would take the value for an option."""
    joined: list[str] = []
    for token in argv:
        if joined and joined[-1] in ("--point", "--box") and re.match(r"-[\d.]", token):
            joined[-1] += f"={token}"
        else:
            joined.append(token)
    return joined


def point(text: str) -> tuple[float, float, int]:
    """x,y or x,y,label."""
    numbers = _numbers(text)
    if len(numbers) not in (2, 3):
        raise argparse.ArgumentTypeError(f"{text!r} is not x,y or x,y,label: write 420,310 or 420,310,0")
    label = numbers[2] if len(numbers) == 3 else 1
    if label not in (0, 1):
        raise argparse.ArgumentTypeError(f"the label in {text!r} must be 1 (on the object) or 0 (off it)")
    return numbers[0], numbers[1], int(label)


def box(text: str) -> tuple[float, float, float, float]:
    """x0,y0,x1,y1."""
    numbers = _numbers(text)
    if len(numbers) != 4:
        raise argparse.ArgumentTypeError(f"{text!r} is not x0,y0,x1,y1: write 80,60,240,200")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} holds something other than numbers and commas") from None


def formats(text: str) -> list[str]:
    """Names of formats between commas."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    try:
        return [find(name).name for name in names]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def format_option(text: str) -> tuple[str, str, str]:
    """FORMAT.NAME=VALUE."""
    match = re.fullmatch(r"([\w-]+)\.(\w+)=(.*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not FORMAT.NAME=VALUE: write overlay.opacity=0.6")
    return match[1], match[2], match[3]


def at_least(low: int) -> Callable[[str], int]:
    """A whole number of `low` or more."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < low:
            raise argparse.ArgumentTypeError(f"{value} is less than {low}")
        return value

    return parse


def add_verb(
    verbs: argparse._SubParsersAction, name: str, summary: str, description: str, example: str
) -> argparse.ArgumentParser:
    """A verb with its help and the options that all verbs take."""
    parser = verbs.add_parser(
        name,
        help=summary,
        description=description,
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    """--model and --device."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="NAME|HUB_ID|FILE",
        help="a name that `sam2 models` lists, a hub id, or a checkpoint; default: the packaged model",
    )
    group.add_argument("--device", help="cuda, mps or cpu; default: the best there is")


def add_precision(parser: argparse.ArgumentParser) -> None:
    """--precision."""
    parser.add_argument(
        "--precision",
        default="float32",
        choices=("float32", "bfloat16", "float16"),
        help="what the model computes in (default float32); bfloat16 is faster on CUDA cards, and on CPUs "
        "that compute in it (`sam2 doctor` says by how much masks differ)",
    )


def add_backend(parser: argparse.ArgumentParser) -> None:
    """--backend."""
    parser.add_argument(
        "--backend",
        default="torch",
        metavar="torch|openvino|FILE|aot:DIR",
        help="who runs the dearest parts: torch, openvino (on the CPU), the encoder.xml of `sam2 export`, or "
        "what `sam2 export --format aot` wrote",
    )


def add_output(parser: argparse.ArgumentParser, default: Sequence[str]) -> None:
    """--out, --format and --force."""
    group = parser.add_argument_group("output", "result.json is always written; see docs/outputs.md")
    group.add_argument("--out", type=Path, metavar="DIR", help="default: out/NAME_OF_INPUT")
    group.add_argument(
        "--format",
        dest="formats",
        type=formats,
        action="extend",
        metavar="NAME[,NAME]",
        help=f"repeatable; default: {','.join(default)}. "
        + "; ".join(f"{one.name}: {one.about}" for one in FORMATS.values()),
    )
    group.add_argument(
        "--option",
        dest="options",
        type=format_option,
        action="append",
        metavar="FORMAT.NAME=VALUE",
        help="repeatable, such as overlay.opacity=0.6; docs/outputs.md lists them",
    )
    group.add_argument("--force", action="store_true", help="replace output that is there already")
    parser.set_defaults(default_formats=list(default))


def out_folder(args: argparse.Namespace, source: Path) -> Path:
    """--out, or a folder named for the input."""
    if args.out is not None:
        return args.out
    whole = source.resolve()
    return Path("out") / (whole.name if whole.is_dir() else whole.stem)
