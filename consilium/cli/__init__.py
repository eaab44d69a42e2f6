"""The `consilium` command. It knows all three packages and imports them on demand: `--help` must not wait for torch.

One file a group of commands. `main` is the entry: it turns every error of ours into one line on standard error, with
exit code 2 for bad input and 1 for everything else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from traceback import walk_tb
from typing import Annotated

import typer

# typer 0.29 brings its own click, and no other name for what a wrong option raises.
from typer._click.exceptions import ClickException, NoArgsIsHelpError

from consilium import __version__
from consilium.cli import cohorts, demo, diagnose, draft, gateway, models, score
from consilium.cli.learning import encoders, experiments, sweep, train, weights
from consilium.cli.lifecycle import cohort, gate, lineage, retrain
from consilium.cli.running import audit_log, bento, jobs, keys, monitor, outcomes, rollout, serve
from consilium.cli.shared.console import logging_restored, show_what_can_be_shown
from consilium.domain.errors import CohortError, ConsiliumError, InputError, NotRegistered, ServiceProblem, os_cause
from consilium.system.environment import provide_account
from consilium.system.extras import extra_that_installs

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
_EXTRAS = (("training", "train"), ("service", "serve"), ("hospital", "hospital"))
"""Packages that need an extra of their own as a whole."""

app = typer.Typer(
    name="consilium",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # which lets a paragraph flow: as it stands in the source it would break twice
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"consilium {__version__}")
        raise typer.Exit


@app.callback()
def _consilium(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Calibrated, explained diagnosis from radiographs, notes and observations: trained, registered and served.

    Decision support under development, no certified medical device.
    """


for group in (
    demo,
    cohorts,
    cohort,
    encoders,
    train,
    sweep,
    experiments,
    diagnose,
    draft,
    jobs,
    serve,
    bento,
    keys,
    audit_log,
    monitor,
    gate,
    outcomes,
    retrain,
    models,
    lineage,
    rollout,
    score,
    weights,
    gateway,
):
    group.add_to(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code."""
    provide_account()
    show_what_can_be_shown()
    try:
        with logging_restored():
            code = app(args=arguments, prog_name="consilium", standalone_mode=False)
    except ClickException as error:
        # Without arguments the help was shown, and is all there is to say.
        helped = isinstance(error, NoArgsIsHelpError)
        return error.exit_code if helped else _fail(error.format_message(), error.exit_code)
    except ConsiliumError as error:
        return _fail(str(error), BAD_INPUT if _is_input(error) else FAILED)
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not complain of it once more while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (OSError, ModuleNotFoundError) as error:
        # No room, no right to write, an extra that is missing: the machine's, not ours, and needs no traceback.
        return _fail(os_cause(error) if isinstance(error, OSError) else _what_to_install(error), FAILED)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _is_input(error: ConsiliumError) -> bool:
    """Whether whoever gave the command can mend it."""
    if isinstance(error, ServiceProblem):
        return error.field is not None
    return isinstance(error, InputError | CohortError | NotRegistered)


def _what_to_install(error: ModuleNotFoundError) -> str:
    """Raises `error` again where no extra of ours brings the module."""
    extra = extra_that_installs(error.name or "")
    if extra is None:
        raise error
    importers = {frame.f_globals["__name__"].partition(".")[0] for frame, _ in walk_tb(error.__traceback__)}
    extra = next((whole for package, whole in _EXTRAS if package in importers), extra)
    return f"{error.name} is not installed; this command needs pip install 'consilium[{extra}]'"


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    return code
