# SPDX-License-Identifier: Apache-2.0
"""The package as it is imported and asked: no device, no torch, plain values."""

import copy
import importlib
import pathlib
import pickle
import re
import subprocess
import sys

import pytest

import crossdock

CONFIG = crossdock.Config(hidden=64, num_experts=8, top_k=2, max_tokens_per_rank=16)


def python(*arguments, limit=60, **options):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=limit, **options)


def test_import_brings_no_torch_and_no_numpy_and_starts_no_thread():
    done = python(
        "-c",
        "import sys, threading, os, crossdock; print([m for m in ('torch', 'numpy', 'socket') if m in sys.modules], "
        "threading.active_count(), len(os.listdir('/proc/self/task')))",
    )
    assert done.stdout.split("\n")[0] == "[] 1 1", done.stdout + done.stderr


def test_the_type_stub_names_what_the_module_has():
    stub = pathlib.Path(crossdock._core.__file__).with_name("_core.pyi").read_text()
    for name in (
        "class Exchange:",
        "class Received:",
        "class Config:",
        "def dispatch(self, x: Any = None, topk_ids: Any = None, topk_weights: Any = None, scales: Any = None",
        "def supports(self, num_ranks: int) -> Support",
        "def poll(self) -> Status:",
        "class UsageError(Error):",
        "def group(self) -> Group:",
    ):
        assert name in stub
    assert pathlib.Path(crossdock.__file__).with_name("py.typed").exists()


def sentences_of(name, value):
    """A docstring without the signatures that nanobind and dataclasses write there by themselves."""
    return "\n".join(line for line in (value.__doc__ or "").splitlines() if not re.match(rf"(def )?{name}\(", line)).strip()


def members_of(kind):
    """(name, sentences) of what a class itself shows."""
    for name, value in vars(kind).items():
        if name.startswith("_") or not (
            callable(value) or isinstance(value, (property, classmethod, staticmethod)) or type(value).__name__ == "nb_method"
        ):
            continue
        yield name, sentences_of(name, value)


@pytest.mark.parametrize(
    "module",
    [
        "crossdock",
        "crossdock.torch",
        "crossdock.testing",
        "crossdock.compat.mori",
        "crossdock.compat.mori.ops",
        "crossdock.compat.mori.shmem",
    ],
)
def test_every_public_name_is_documented_with_a_sentence(module):
    module, bare = importlib.import_module(module), []
    for name in getattr(module, "__all__", [n for n, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__]):
        value = getattr(module, name)
        if name.startswith("_") or not (callable(value) or isinstance(value, type)):
            continue
        if " " not in sentences_of(name, value):
            bare.append(name)
        kinds = [kind for kind in value.__mro__ if kind.__module__.startswith("crossdock")] if isinstance(value, type) else []
        bare += [
            f"{name}.{member}"
            for kind in kinds
            for member, text in members_of(kind)
            if " " not in text and not (kind is crossdock.Config and re.search(rf"\b{member}\b", kind.__doc__))
        ]
    assert not bare


def test_programs_are_checked_against_the_types(tmp_path):
    """mypy sees what users see: the stub, and py.typed."""
    root = pathlib.Path(__file__).resolve().parents[2]
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import crossdock\ncrossdock.Config(hidden='8', num_experts=1, top_k=1, max_tokens_per_rank=1)\ncrossdock.NoSuchError\n"
    )
    cache = ["--cache-dir", str(tmp_path / "cache")]
    good = python("-m", "mypy", "--strict", *cache, str(root / "tests/python/programs/typed.py"), limit=240)
    assert good.returncode == 0 and "no issues" in good.stdout, good.stdout + good.stderr
    hello = python("-m", "mypy", *cache, "--check-untyped-defs", str(root / "examples/python/hello.py"), limit=240)
    assert hello.returncode == 0, hello.stdout + hello.stderr
    bad = python("-m", "mypy", *cache, str(wrong), limit=240)
    assert bad.returncode == 1 and "[arg-type]" in bad.stdout and "NoSuchError" in bad.stdout, bad.stdout + bad.stderr


OF_EVERY_LINUX = re.compile(r"lib(stdc\+\+|m|gcc_s|c|pthread|dl|rt)\.so|ld-linux|libcrossdock\.so")


def test_the_package_links_nothing_of_torch_or_a_driver_and_is_small():
    """One wheel serves every torch, and imports without a GPU."""
    files = [file for file in pathlib.Path(crossdock.__file__).parent.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    libraries = [file for file in files if ".so" in file.name]
    assert {file.name.split(".")[0] for file in libraries} >= {"_core", "libcrossdock"}
    for library in libraries:
        listed = subprocess.run(["readelf", "-d", str(library)], capture_output=True, text=True, check=True).stdout
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", listed)
        assert needed and all(OF_EVERY_LINUX.match(name) for name in needed), (library, needed)
    unpacked = sum(file.stat().st_size for file in files)
    assert unpacked < 12e6, unpacked  # 6 MB, 2.8 MB as a wheel, for one architecture of GPUs


def test_the_program_of_host_times_prints_them():
    done = python(str(pathlib.Path(__file__).with_name("programs") / "host_time.py"), limit=120)
    figures = re.findall(r"^(\S+): median (\d+\.\d) us, 9 of 10 below (\d+\.\d) us$", done.stdout, re.MULTILINE)
    assert [name for name, *_ in figures] == ["dispatch", "combine", "Received.rows"], done.stdout + done.stderr
    assert all(0 < float(median) <= float(most) for _, median, most in figures)


def test_the_command_line_says_where_things_are():
    assert python("-m", "crossdock", "--version").stdout.strip() == crossdock.__version__
    assert pathlib.Path(python("-m", "crossdock", "--library-dir").stdout.strip(), "").is_dir()
    assert "usage" in python("-m", "crossdock").stdout


def test_config_is_frozen_hashable_and_travels():
    same = crossdock.Config(hidden=64, num_experts=8, top_k=2, max_tokens_per_rank=16)
    assert same == CONFIG and hash(same) == hash(CONFIG) and {same: 1}[CONFIG] == 1
    assert CONFIG.replace(top_k=3) != CONFIG and CONFIG != "a config" and CONFIG.replace(top_k=3).top_k == 3
    assert pickle.loads(pickle.dumps(CONFIG)) == CONFIG == copy.copy(CONFIG)
    with pytest.raises(AttributeError):
        CONFIG.hidden = 3
    assert eval(repr(CONFIG), {"Config": crossdock.Config}) == CONFIG


@pytest.mark.parametrize("member", list(CONFIG.as_dict()))
def test_every_member_of_config_is_set_compared_and_read(member):
    value = CONFIG.as_dict()[member]
    names = {"combine_quant": "fp8_blockwise", "layout": "contiguous", "overflow": "error"}
    other = names.get(member, "f32") if isinstance(value, str) else (not value) if isinstance(value, bool) else value + 1
    changed = CONFIG.replace(**{member: other})
    assert getattr(changed, member) == other != value and changed != CONFIG


@pytest.mark.parametrize(
    "members, words",
    [
        (dict(hiden=3), "no member `hiden`"),
        (dict(hidden=1.5), "hidden = 1.5"),
        (dict(hidden=2**40), "32 bits"),
        (dict(layout="rows"), "token_major"),
        (dict(dispatch_dtype="int4"), "bf16, f16"),
        (dict(zero_copy=1), "True or False"),
    ],
)
def test_config_refuses_what_it_cannot_hold(members, words):
    with pytest.raises(crossdock.UsageError, match=words):
        CONFIG.replace(**members)


def test_results_are_values_by_name():
    def job(group):
        exchange = group.exchange(CONFIG)
        before = exchange.last_launch
        exchange.dispatch()
        return exchange.poll(), group.poll(), before, exchange.last_launch

    of_exchange, of_group, before, after = crossdock.run_ranks(1, job, backend="cpu")[0]
    assert of_exchange.code == of_group.code == "ok" and not of_exchange.fatal and isinstance(of_group, crossdock.Status)
    assert before[:3] == (0, 0, 0) and isinstance(after, crossdock.LaunchInfo) and after.num_blocks == 1 and after.tuned_by == "rule"
    assert isinstance(CONFIG.memory(2), crossdock.MemoryUsage)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: crossdock.Config(), "hidden, num_experts, top_k, max_tokens_per_rank must be given"),
        (lambda: crossdock.Config(hidden=8, top_k=1, max_tokens_per_rank=1), "num_experts must"),
        (lambda: CONFIG.supports("2"), "Config.supports: num_ranks = '2'"),
        (lambda: CONFIG.memory(None), "Config.memory: num_ranks = None"),
        (lambda: CONFIG.memory(2, 3), "Config.memory: backend = 3"),
        (lambda: CONFIG.fit("2", 1 << 20), "num_ranks = '2'"),
        (lambda: CONFIG.fit(2, "1 MB"), "Config.fit: budget_bytes = '1 MB'"),
        (lambda: CONFIG.union({}), "Config.union: other is a dict; pass a crossdock.Config"),
        (lambda: CONFIG.received_shape("2", 0), "num_ranks = '2'"),
        (lambda: CONFIG.token_capacity(2.5), "num_ranks = 2.5"),
    ],
)
def test_questions_with_bad_arguments_are_usage_errors(call, words):
    with pytest.raises(crossdock.UsageError, match=words):
        call()


def test_dtypes_of_frameworks_are_names_too():
    import ml_dtypes
    import numpy as np
    import torch

    for dtype, name in (
        (torch.bfloat16, "bf16"),
        (torch.float8_e4m3fn, "fp8_e4m3"),
        (np.float32, "f32"),
        (np.dtype("float16"), "f16"),
        (ml_dtypes.bfloat16, "bf16"),
        (ml_dtypes.float8_e4m3fnuz, "fp8_e4m3fnuz"),
        (torch.float4_e2m1fn_x2, "fp4_e2m1"),
    ):
        assert CONFIG.replace(dispatch_dtype=dtype).dispatch_dtype == name


def test_supports_answers_with_a_reason():
    assert CONFIG.supports(4) and CONFIG.supports(4).reason == ""
    refused = CONFIG.replace(hidden=3).supports(4)
    assert not refused and "16 bytes" in refused.reason
    with pytest.raises(crossdock.ConfigError, match="16 bytes"):
        CONFIG.replace(hidden=3).memory(4)


def test_the_memory_asked_for_is_what_is_allocated_and_fit_fills_a_budget(crossdock_ranks):
    usage = CONFIG.memory(2)
    assert usage.total == sum(bytes for name, bytes in usage.items() if name != "total")
    assert crossdock_ranks(2)(lambda group: group.exchange(CONFIG).allocated_bytes) == [usage.total] * 2
    fitted = CONFIG.fit(2, 1 << 20)
    more = fitted.replace(max_tokens_per_rank=fitted.max_tokens_per_rank + 64)
    assert fitted.memory(2).total <= 1 << 20 < more.memory(2).total
    with pytest.raises(crossdock.ConfigError, match="one token takes"):
        CONFIG.fit(2, 100)


def test_union_serves_both():
    a, b = CONFIG.replace(max_tokens_per_rank=4, zero_copy=True), CONFIG.replace(hidden=128, row_capacity=9)
    assert a.union(b) == CONFIG.replace(hidden=128, zero_copy=True)
    with pytest.raises(crossdock.ConfigError, match="num_experts is 8 and 9"):
        CONFIG.union(CONFIG.replace(num_experts=9))


def test_the_exception_tree_is_the_list_of_statuses():
    tree = {kind.code: kind for kind in vars(crossdock).values() if isinstance(kind, type) and issubclass(kind, crossdock.Error)}
    assert set(tree) == set(crossdock.STATUSES) and issubclass(crossdock.Error, RuntimeError)
    assert tree["peer_lost"] is crossdock.PeerLostError and tree["config"] is crossdock.ConfigError


def test_capabilities_need_no_device():
    offered = crossdock.capabilities()
    assert offered["backends"]["cpu"]["num_devices"] == 1 and offered["dtypes"] == crossdock.DTYPES
    assert offered["combine_quants"] == crossdock.COMBINE_QUANTS == ("none", "fp8_direct_cast", "fp8_blockwise")


@pytest.mark.parametrize("layout", crossdock.LAYOUTS)
def test_shapes_are_known_before_a_dispatch(layout, crossdock_ranks):
    config = crossdock.Config(
        hidden=8, num_experts=5, top_k=3, max_tokens_per_rank=7, layout=layout, alignment=8 if layout == "contiguous" else 1
    )

    def rank_job(group):
        received = group.exchange(config).dispatch()
        return received.rows.shape == config.received_shape(4, group.rank) and len(received.topk_ids) == config.token_capacity(4)

    assert all(crossdock_ranks(4)(rank_job))
