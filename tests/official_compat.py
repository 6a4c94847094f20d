"""The Python half of tests/official_compat.sh."""
import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy
import torch
import transformers

TOLERANCE = 1e-3
SHAPE = dict(vocab_size=211, hidden_size=48, intermediate_size=40, num_hidden_layers=2, num_attention_heads=6,
             max_position_embeddings=256, initializer_range=0.2, rms_norm_eps=1e-6, bos_token_id=1, eos_token_id=2)
IDS = [1] + [(7 * i * i + 3 * i + 5) % SHAPE["vocab_size"] for i in range(39)]

parser = argparse.ArgumentParser()
for name in ("checkout", "xft", "logits", "device", "work"):
    parser.add_argument("--" + name, required=True)
args = parser.parse_args()
work = Path(args.work)
failed = 0


def reference_class():
    """The reference's own class, from its checkout. It sends some tensors to a GPU; here they stay where they are."""
    for folder in (Path(args.checkout), Path(args.checkout) / "src" / "magicoder"):
        if (folder / "model" / "modeling_llama_moe_upscaling_hf.py").is_file():
            sys.path.insert(0, str(folder))
            from model.modeling_llama_moe_upscaling_hf import LlamaMoEUpscalingForCausalLM
            move = torch.Tensor.to
            torch.Tensor.to = lambda self, *a, **k: self if a[:1] == ("cuda",) else move(self, *a, **k)
            return LlamaMoEUpscalingForCausalLM
    raise SystemExit(f"{args.checkout}: no src/magicoder/model/modeling_llama_moe_upscaling_hf.py below it")


def check(name, good, what=""):
    global failed
    failed += not good
    print(f"{'ok      ' if good else 'FAILED  '} {name}{': ' if what else ''}{what}", flush=True)


def xft(*arguments):
    subprocess.run([args.xft, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def our_logits(folder):
    file = work / "logits"
    subprocess.run([args.logits, args.device, folder, file, *map(str, IDS)], check=True)
    return torch.from_numpy(numpy.fromfile(file, dtype=numpy.float32).reshape(len(IDS), -1))


def logits_of(model):
    with torch.no_grad():
        return model.eval()(torch.tensor([IDS]), use_cache=False).logits[0].float()


def same_logits(name, ours, theirs):
    worst = ((ours - theirs).abs() / theirs.abs().clamp(min=1)).max().item()
    check(name, worst < TOLERANCE, f"logits differ by {worst:.1e} at the most, of {theirs.abs().max():.1f}")


def load(model_class, folder, name):
    model, info = model_class.from_pretrained(folder, output_loading_info=True, torch_dtype=torch.float32)
    # rotary frequencies are not weights: every version of transformers computes them
    missing = [key for key in info["missing_keys"] if "rotary_emb.inv_freq" not in key]
    check(name, not missing and not info["unexpected_keys"] and not info["mismatched_keys"],
          f"missing {missing}, unexpected {info['unexpected_keys']}, mismatched {info['mismatched_keys']}")
    return model


def scale_routers(model):
    """Routers that tell tokens apart, so that experts matter; experts that differ."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "gate" in name and "weight_gate" not in name or "experts" in name:
                weight.add_(0.3 * torch.randn_like(weight))


def both_ways(moe_class, base, experts, top_k, gate_network):
    label = f"{base.name}, {experts} experts, {top_k} used, {gate_network} gate"
    moe, saved, merged = (work / f"{base.name}-{experts}-{gate_network}-{part}" for part in ("moe", "saved", "merged"))
    xft("upcycle", "--model", base, "--output", moe, "--experts", experts, "--top-k", top_k, "--gate-network",
        gate_network, "--compat", "official", "--device", args.device)
    theirs = load(moe_class, moe, f"{label}: the reference loads what we save")
    same_logits(f"{label}: upcycled", our_logits(moe), logits_of(theirs))
    scale_routers(theirs)
    theirs.save_pretrained(saved)
    same_logits(f"{label}: we load what the reference saves", our_logits(saved), logits_of(theirs))
    xft("merge", "--model", saved, "--output", merged, "--merge-kind", "uniform", "--compat", "official", "--device",
        args.device)
    dense = load(transformers.LlamaForCausalLM, merged, f"{label}: transformers loads the merged model")
    same_logits(f"{label}: merged", our_logits(merged), logits_of(dense))


def main():
    transformers.logging.set_verbosity_error()
    moe_class = reference_class()
    for name, changes in (("llama", {}), ("llama-gqa-tied", dict(num_key_value_heads=2, tie_word_embeddings=True))):
        torch.manual_seed(3)
        base = work / name
        transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE | changes)).save_pretrained(base)
        both_ways(moe_class, base, 8, 6, "mlp")
    both_ways(moe_class, work / "llama", 4, 2, "linear")
    print(f"{failed} failed")
    raise SystemExit(failed != 0)


main()
