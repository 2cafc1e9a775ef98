"""The verbs. Each is a frozen dataclass (its flags) and a function; the function's module is imported when it runs.

`handeye VERB --help` must stay instant and work without torch, mujoco or a GL library: nothing heavy is
imported here.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from handeye import __version__
from handeye.console import errors, say
from handeye.errors import UserError, unknown


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One command: where its flags are described and where it is done. Both as `module:name`, imported when needed."""

    about: str
    config: str
    run: str


VERBS = {
    "quickstart": Verb(
        about="demonstrations, training, evaluation and a page in ten minutes on two CPU cores, nothing to download",
        config="handeye.quickstart:QuickstartConfig",
        run="handeye.quickstart:run",
    ),
    "fetch libero": Verb(
        about="bring LIBERO's task files, initial states, robot and scenes, each checked",
        config="handeye.sim.config:FetchConfig",
        run="handeye.sim.assets:fetch",
    ),
    "fetch demos": Verb(
        about="bring published demonstrations (HDF5, RLDS or LeRobot) from the hub, whole and checked",
        config="handeye.data.fetch.config:FetchDemosConfig",
        run="handeye.data.fetch.run:demos",
    ),
    "fetch xvr": Verb(
        about="bring XVR, questions about several pictures, from the hub, whole and checked",
        config="handeye.data.fetch.config:FetchXvrConfig",
        run="handeye.data.fetch.run:questions",
    ),
    "sim check": Verb(
        about="a settle probe and a rendered frame: is this simulator the one the numbers are about?",
        config="handeye.sim.config:CheckConfig",
        run="handeye.sim.check:run",
    ),
    "bench sim": Verb(
        about="the simulator's speed against MuJoCo's floor and, where given, against the reference",
        config="handeye.sim.config:BenchSimConfig",
        run="handeye.sim.bench:run",
    ),
    "bench data": Verb(
        about="how fast training is fed from each format, against a naive loop and, where given, lerobot",
        config="handeye.data.config:BenchDataConfig",
        run="handeye.data.bench.run:run",
    ),
    "data verify": Verb(
        about="are these demonstrations what they say? counts, ranges, and each convention with its evidence",
        config="handeye.data.config:VerifyConfig",
        run="handeye.data.verify.run:run",
    ),
    "data stats": Verb(
        about="exact statistics of actions and proprioception, as checkpoints carry them",
        config="handeye.data.config:StatsConfig",
        run="handeye.data.look:stats",
    ),
    "data index": Verb(
        about="what is in a set: tasks, sentences, episodes, lengths",
        config="handeye.data.config:IndexConfig",
        run="handeye.data.look:index",
    ),
    "data make-xvr": Verb(
        about="true questions about several pictures, of XVR's eight kinds, rendered by our own simulator",
        config="handeye.data.xvr.make.config:MakeXvrConfig",
        run="handeye.data.xvr.make.run:run",
    ),
    "data convert": Verb(
        about="any format into any other; no-ops dropped or episodes made again where asked, all accounted for",
        config="handeye.data.config:ConvertConfig",
        run="handeye.data.convert.run:run",
    ),
    "data replay": Verb(
        about="how many demonstrations still succeed in this simulator?",
        config="handeye.data.config:ReplayConfig",
        run="handeye.data.replay.run:run",
    ),
    "data show": Verb(
        about="one demonstration as a contact sheet with its actions, and as a video",
        config="handeye.data.config:ShowConfig",
        run="handeye.data.show:run",
    ),
    "bench eval": Verb(
        about="episodes per minute against a loop as the published scripts run it, and what to expect elsewhere",
        config="handeye.evaluate.bench_config:BenchEvalConfig",
        run="handeye.cli:_bench_eval",
    ),
    "demos": Verb(
        about="record demonstrations of a suite by the scripted expert, in LIBERO's HDF5 layout",
        config="handeye.expert.config:DemosConfig",
        run="handeye.expert.demos:run",
    ),
    "train": Verb(
        about="fine-tune or train a policy from a preset; goes on where it was killed",
        config="handeye.train.choice:choice",
        run="handeye.cli:_train",
    ),
    "evaluate": Verb(
        about="roll a checkpoint, the expert or a baseline out on a suite; goes on where it was killed",
        config="handeye.evaluate.config:EvaluateConfig",
        run="handeye.cli:_evaluate",
    ),
    "diagnose": Verb(
        about="why does a policy fail? on demonstrations and in the simulator, with evidence and what to mend",
        config="handeye.diagnose.config:DiagnoseConfig",
        run="handeye.cli:_diagnose",
    ),
    "evaluate-offline": Verb(
        about="a checkpoint's answers on held-out demonstrations, beside chance, and what they depend on",
        config="handeye.evaluate.offline_config:OfflineConfig",
        run="handeye.cli:_evaluate_offline",
    ),
    "evaluate-vqa": Verb(
        about="ask a PaliGemma questions about pictures: right answers per kind, beside guessing and published figures",
        config="handeye.evaluate.vqa_config:EvaluateVqaConfig",
        run="handeye.cli:_evaluate_vqa",
    ),
    "serve": Verb(
        about="answer openpi's and handeye's clients over a websocket with a checkpoint's actions",
        config="handeye.serve.config:ServeConfig",
        run="handeye.serve.run:run",
    ),
    "convert": Verb(
        about="a policy's checkpoint from one layout into another: ours, OpenVLA's, openpi's",
        config="handeye.checkpoints.convert_config:ConvertConfig",
        run="handeye.cli:_convert",
    ),
    "doctor": Verb(
        about="is this machine fit, and what should be used on it? each finding with what it means and what to type",
        config="handeye.doctor.config:DoctorConfig",
        run="handeye.doctor.run:run",
    ),
    "inspect": Verb(
        about="what is this file or folder? family, backbones, what is missing, the command that uses it; runs nothing",
        config="handeye.checkpoints.inspect.config:InspectConfig",
        run="handeye.cli:_inspect",
    ),
    "merge": Verb(
        about="a LoRA adapter into its base: once, in single precision, measured",
        config="handeye.checkpoints.merge_lora_config:MergeLoraConfig",
        run="handeye.cli:_merge",
    ),
    "merge-vlm": Verb(
        about="put a tuned PaliGemma under pi0.5's action expert; every array accounted for",
        config="handeye.checkpoints.merge_config:MergeVlmConfig",
        run="handeye.cli:_merge_vlm",
    ),
    "extract-vlm": Verb(
        about="take PaliGemma out of pi0 or pi0.5, without the action expert",
        config="handeye.checkpoints.merge_config:ExtractVlmConfig",
        run="handeye.cli:_extract_vlm",
    ),
    "plan": Verb(
        about="how many episodes for which difference, and how many hours, before anything runs",
        config="handeye.evaluate.study_config:PlanConfig",
        run="handeye.evaluate.planner:run",
    ),
    "compare": Verb(
        about="is one evaluation better than another? paired, with an interval and a verdict",
        config="handeye.evaluate.study_config:CompareConfig",
        run="handeye.evaluate.compare_run:run",
    ),
    "select": Verb(
        about="choose the best of several checkpoints on initial states that its test will not use",
        config="handeye.evaluate.study_config:SelectConfig",
        run="handeye.evaluate.selection:run",
    ),
    "protocols list": Verb(
        about="the evaluation protocols, ours and those of published numbers",
        config="handeye.protocols.config:ListConfig",
        run="handeye.protocols.show:list_",
    ),
    "protocols show": Verb(
        about="one protocol, every constant with its source",
        config="handeye.protocols.config:ShowConfig",
        run="handeye.protocols.show:show",
    ),
    "protocols diff": Verb(
        about="what differs between two protocols",
        config="handeye.protocols.config:DiffConfig",
        run="handeye.protocols.show:diff",
    ),
    "merge-runs": Verb(
        about="put parts of one evaluation together, refusing what does not belong",
        config="handeye.evaluate.config:MergeConfig",
        run="handeye.evaluate.merge:run",
    ),
    "report": Verb(
        about="one self-contained page with rates, intervals, episodes and videos",
        config="handeye.report.config:ReportConfig",
        run="handeye.report.run:run",
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. Exit codes: 0 done, 1 done with a bad verdict, 2 wrong input (`UserError`), 130 interrupted, 141
    nobody reads any further (`| head`)."""
    try:
        try:
            _main(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _unread():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is written when the program ends
        sys.exit(141)


def _unread() -> bool:
    """Whether it is this program's own output whose reader is gone, and no other pipe."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # it is no file
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _main(arguments: Sequence[str] | None) -> None:
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            say(_overview())
            return
        if words[0] == "--version":
            say(__version__)
            return
        name, rest = _split(words)
        code = _call(name, rest)
    except UserError as error:
        if os.environ.get("HANDEYE_TRACEBACK"):
            raise
        errors.print(str(error), markup=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        errors.print("interrupted; the same command goes on from here", markup=False)
        sys.exit(130)
    except OSError as error:
        if error.errno != errno.ENOSPC or os.environ.get("HANDEYE_TRACEBACK"):
            raise
        errors.print(
            f"The disk is full.\n  why: {error}\n  fix: free some space, then run the same command again: it goes on",
            markup=False,
        )
        sys.exit(2)
    if code:
        sys.exit(code)


def _overview() -> str:
    lines = [f"handeye {__version__}: fine-tune VLA models on LIBERO, and measure them so that the number is true.", ""]
    lines += [f"  handeye {name:<14} {verb.about}" for name, verb in VERBS.items()]
    lines += ["", "`handeye VERB --help` lists a verb's flags. HANDEYE_TRACEBACK=1 shows where an error came from."]
    return "\n".join(lines)


def _split(words: Sequence[str]) -> tuple[str, list[str]]:
    """Verbs are one or two words long: `train`, `sim check`."""
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in VERBS:
            return name, list(words[length:])
    family = [name for name in VERBS if name.split()[0] == words[0]]
    if family:
        if len(words) > 1 and not words[1].startswith("-"):
            raise unknown(f"`handeye {words[0]}` verb", words[1], (name.split()[1] for name in family), fix="see above")
        say("\n".join(f"  handeye {name:<14} {VERBS[name].about}" for name in family))
        sys.exit(0 if words[1:] else 2)
    raise unknown("verb", words[0], VERBS, fix="`handeye --help` lists them")


def _call(name: str, arguments: list[str]) -> int:
    """Parse the verb's flags and run it. A verb that returns an integer chooses the exit code."""
    import tyro

    verb = VERBS[name]
    described = _load(verb.config)
    config_type = described(arguments) if not isinstance(described, type) else described
    config = tyro.cli(config_type, prog=f"handeye {name}", args=arguments, config=(tyro.conf.OmitArgPrefixes,))
    result = _load(verb.run)(config)
    return result if isinstance(result, int) else 0


def _load(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def _evaluate(config: Any) -> object:
    """`evaluate` never imports torch; an address becomes a policy here and is handed over."""
    from handeye.evaluate.replicas import Replicas
    from handeye.evaluate.run import run
    from handeye.protocols.presets import protocol
    from handeye.serve.load import load

    how = {name: getattr(config, name) for name in ("rows", "attention", "precision")}
    how["replan"] = protocol(config.protocol).replan_steps
    if config.ray is not None:
        from handeye.evaluate.on_cluster import on_cluster

        with on_cluster(config, "handeye.serve.load:load", how) as elsewhere:
            return run(config, elsewhere)
    if len(config.devices) == 1 or config.policy == "expert":
        return run(config, load(config.policy, device=config.devices[0], **how))
    with Replicas("handeye.serve.load:load", config.policy, config.devices, **how) as policy:
        return run(config, policy)


def _evaluate_offline(config: Any) -> None:
    """Judged by training's own measures, which `evaluate` knows nothing of."""
    from handeye.evaluate.offline import run
    from handeye.serve.load import load
    from handeye.train import validate

    how = {name: getattr(config, name) for name in ("device", "rows", "attention", "precision")}
    run(config, load(config.policy, **how), validate)


def _evaluate_vqa(config: Any) -> None:
    from handeye.evaluate.vqa import run
    from handeye.serve.answers import load_answerer

    how = {name: getattr(config, name) for name in ("tokenizer", "pictures", "prefix", "device", "precision")}
    where = {"heads": config.start_heads, "tokens": config.length, "length": config.answer_length}
    run(config, load_answerer(config.checkpoint, **how, **where))


def _train(config: Any) -> object:
    """Presets are of two kinds: policies learn from demonstrations, PaliGemma learns from questions."""
    from handeye.train.vqa_config import VqaConfig

    return _load("handeye.train.vqa:run" if isinstance(config, VqaConfig) else "handeye.train.run:run")(config)


def _diagnose(config: Any) -> int:
    from handeye.diagnose.run import run
    from handeye.serve.load import load

    return run(config, load(config.policy, device=config.device, rows=config.rows))


def _convert(config: Any) -> None:
    from pathlib import Path

    from handeye.checkpoints.convert import convert
    from handeye.policy.address import folder_and_options

    folder, options = folder_and_options(config.checkpoint)
    convert(config, Path(folder), options)


def _inspect(config: Any) -> int:
    """Initial states are the simulator's business, which checkpoints know nothing of."""
    from pathlib import Path

    from handeye.checkpoints.inspect.run import run
    from handeye.policy.address import folder_and_options
    from handeye.sim.init_states import read

    path, options = folder_and_options(config.path)
    return run(config, Path(path), options, read)


def _merge(config: Any) -> None:
    from pathlib import Path

    from handeye.checkpoints.merge_lora import run
    from handeye.policy.address import folder_and_options

    folder, options = folder_and_options(config.base)
    run(config, Path(folder), options)


def _merge_vlm(config: Any) -> None:
    from pathlib import Path

    from handeye.checkpoints.merge_vlm import run
    from handeye.policy.address import folder_and_options

    folder, options = folder_and_options(config.base)
    run(config, Path(folder), options)


def _extract_vlm(config: Any) -> None:
    from pathlib import Path

    from handeye.checkpoints.merge_vlm import extract
    from handeye.policy.address import folder_and_options

    folder, options = folder_and_options(config.base)
    extract(config, Path(folder), options)


def _bench_eval(config: Any) -> object:
    from handeye.evaluate.bench import run
    from handeye.evaluate.bench_config import UNTRAINED
    from handeye.serve.load import load
    from handeye.serve.untrained import untrained

    if config.policy == UNTRAINED:
        return run(config, untrained(camera_size=config.camera_size, rows=config.rows))
    return run(config, load(config.policy, rows=config.rows))


if __name__ == "__main__":
    main()
