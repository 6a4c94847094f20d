#!/usr/bin/env python3
"""bad_input.py XFT [NAME…]: broken files and settings, given to the command.

Each case breaks one thing in a folder of good ones and runs a command there. It must end with exit code 1 or 2 and one
line of words that names the place, soon, and leave every file of the outputs that earlier commands made as it was.
NAME: only cases whose name contains it. XFT_TEST_DEVICE: the device (opencl)."""
import array, glob, gzip, json, os, random, re, resource, shutil, signal, struct, subprocess, sys, tempfile, time

XFT = os.path.abspath(sys.argv[1])
SHIM = os.path.join(os.path.dirname(XFT), 'tests', 'libxft_disk_shim.so')
ONLY = sys.argv[2:]
HERE = os.path.dirname(os.path.abspath(__file__))
DEVICE = os.environ.get('XFT_TEST_DEVICE', 'opencl')
TOKENIZER = os.path.join(HERE, 'oracle_tokenizer', 'gpt2')
VOCABULARY, HIDDEN, INNER, LAYERS = 1601, 32, 48, 2

# ---- A folder of good files -----------------------------------------------------------------------------------------

CONFIG = dict(architectures=['LlamaForCausalLM'], attention_bias=False, bos_token_id=0, eos_token_id=0,
              hidden_act='silu', hidden_size=HIDDEN, initializer_range=0.02, intermediate_size=INNER,
              max_position_embeddings=128, mlp_bias=False, model_type='llama', num_attention_heads=2,
              num_hidden_layers=LAYERS, num_key_value_heads=1, pretraining_tp=1, rms_norm_eps=1e-6, rope_scaling=None,
              rope_theta=10000.0, tie_word_embeddings=True, torch_dtype='float32', vocab_size=VOCABULARY)


def shapes():
    yield 'model.embed_tokens.weight', (VOCABULARY, HIDDEN)
    yield 'model.norm.weight', (HIDDEN,)
    for l in range(LAYERS):
        p = f'model.layers.{l}.'
        yield p + 'input_layernorm.weight', (HIDDEN,)
        yield p + 'post_attention_layernorm.weight', (HIDDEN,)
        yield p + 'self_attn.q_proj.weight', (HIDDEN, HIDDEN)
        yield p + 'self_attn.k_proj.weight', (HIDDEN // 2, HIDDEN)
        yield p + 'self_attn.v_proj.weight', (HIDDEN // 2, HIDDEN)
        yield p + 'self_attn.o_proj.weight', (HIDDEN, HIDDEN)
        yield p + 'mlp.gate_proj.weight', (INNER, HIDDEN)
        yield p + 'mlp.up_proj.weight', (INNER, HIDDEN)
        yield p + 'mlp.down_proj.weight', (HIDDEN, INNER)


def write(path, content):
    with open(path, 'wb') as f:
        f.write(content if isinstance(content, bytes) else content.encode())


def read(path):
    with open(path, 'rb') as f:
        return f.read()


def write_safetensors(path, header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    write(path, struct.pack('<Q', len(text)) + text + data)


def read_safetensors(path):
    content = read(path)
    length, = struct.unpack('<Q', content[:8])
    return json.loads(content[8:8 + length]), content[8 + length:]


def make_good():
    os.mkdir('model')
    header, data, numbers = {}, b'', random.Random(1)
    for name, shape in shapes():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = array.array('f', [1.0 if len(shape) == 1 else numbers.gauss(0, 0.05) for _ in range(count)])
        header[name] = dict(dtype='F32', shape=shape, data_offsets=[len(data), len(data) + 4 * count])
        data += values.tobytes()
    write_safetensors('model/model.safetensors', header, data)
    write('model/config.json', json.dumps(CONFIG))
    for name in ('tokenizer.json', 'tokenizer_config.json'):
        shutil.copy(os.path.join(TOKENIZER, name), 'model')
    write('data.jsonl', ''.join(json.dumps(dict(prompt=f'{i} plus {i} is', completion=f' {2 * i}')) + '\n'
                                for i in range(8)))
    write('problems.jsonl', json.dumps(dict(task_id='t/0', instruction='Return 1.', entry_point='f',
                                            test='assert f() == 1')) + '\n')
    write('config.yaml', f'device: {DEVICE}\nlength: 64\nbatch: 4\nmicro_batch: 2\nmax_steps: 2\nsave_every: 1\n'
                         'experts: 4\ntop_k: 2\nmax_new_tokens: 4\n')
    for command in (UPCYCLE, TRAIN, MERGE + ' --uniform'):
        done = run(command)
        if done.returncode:
            sys.exit(f'cannot begin: xft {command}: {done.stderr}')
    stop_run()


def stop_run():
    """A run in the folder `stopped` that has one checkpoint and is not done."""
    process = subprocess.Popen([XFT] + RESUME.split(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(1200):
        if process.poll() is not None or glob.glob('stopped/checkpoints/step-*'):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    if process.wait(60) != 130:
        sys.exit(f'cannot begin: xft {RESUME}: exit code {process.returncode}')


def checkpoint(name):
    return glob.glob('stopped/checkpoints/step-*/' + name)[0]


# Every command has an output folder that an earlier one has filled.
UPCYCLE = 'upcycle --config config.yaml --model model --output moe --no-resume'
TRAIN = 'train --config config.yaml --model model --data data.jsonl --output tuned'
RESUME = TRAIN.replace('--output tuned', '--output stopped --epochs 100000 --max-steps 100000 --keep 1 --save-every 2')
MERGE = 'merge --config config.yaml --model moe --data data.jsonl --output merged'
EVAL = 'eval --config config.yaml --model model --data data.jsonl --output scores'
SCORE = 'eval --config config.yaml --model model --problems problems.jsonl --output scores'
RUN = 'run config.yaml --model model --data data.jsonl --output pipeline'
GENERATE = 'generate --config config.yaml --model model'
INSPECT = 'inspect model'


def run(command, limit=None):
    def prepare():
        if limit:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    words = command if isinstance(command, list) else [XFT] + command.split()
    return subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, timeout=120, text=True,
                          errors='replace', preexec_fn=prepare)


# ---- Ways to break things -------------------------------------------------------------------------------------------

def edit_json(path, **changes):
    o = json.loads(read(path))
    for key, value in changes.items():
        if value is KeyError:
            o.pop(key, None)
        else:
            o[key] = value
    write(path, json.dumps(o))


def config(**changes):
    return lambda: edit_json('model/config.json', **changes)


def text(path, content):
    return lambda: write(path, content)


def remove(path):
    return lambda: os.remove(path)


WEIGHTS = 'model/model.safetensors'
UP = 'model.layers.1.mlp.up_proj.weight'


def header(change):
    """change(header) edits the header in place; the data stay."""
    def breaks():
        h, data = read_safetensors(WEIGHTS)
        change(h)
        write_safetensors(WEIGHTS, h, data)
    return breaks


def bytes_of(change):
    return lambda: write(WEIGHTS, change(read(WEIGHTS)))


def value(number):
    def breaks():
        h, data = read_safetensors(WEIGHTS)
        at = h[UP]['data_offsets'][0] + 40
        write_safetensors(WEIGHTS, h, data[:at] + struct.pack('<f', number) + data[at + 4:])
    return breaks


def drop_tensor():
    h, data = read_safetensors(WEIGHTS)
    name = list(h)[-1]
    write_safetensors(WEIGHTS, {k: v for k, v in h.items() if k != name}, data[:h[name]['data_offsets'][0]])


def add_tensor():
    h, data = read_safetensors(WEIGHTS)
    h['extra.weight'] = dict(dtype='F32', shape=[2], data_offsets=[len(data), len(data) + 8])
    write_safetensors(WEIGHTS, h, data + bytes(8))


def twice():
    content = read(WEIGHTS)
    length, = struct.unpack('<Q', content[:8])
    h = content[8:8 + length]
    h = h.replace(b'layers.1.mlp.up_proj', b'layers.1.mlp.gate_proj')
    write_safetensors(WEIGHTS, h, content[8 + length:])


def shards(change):
    """The model in two files and an index; change(index) edits it."""
    def breaks():
        h, data = read_safetensors(WEIGHTS)
        index = {}
        for part in range(2):
            inside, some = {}, b''
            for number, (name, t) in enumerate(h.items()):
                if number % 2 == part:
                    piece = data[slice(*t['data_offsets'])]
                    inside[name] = dict(t, data_offsets=[len(some), len(some) + len(piece)])
                    some += piece
                    index[name] = f'{part}.safetensors'
            write_safetensors(f'model/{part}.safetensors', inside, some)
        os.remove(WEIGHTS)
        whole = dict(metadata=dict(total_size=len(data)), weight_map=index)
        change(whole)
        write('model/model.safetensors.index.json', json.dumps(whole))
    return breaks


def wrong_dtype(h):
    h[UP]['dtype'] = 'I32'


def shift(amount):
    def change(h):
        h[UP]['data_offsets'] = [o + amount for o in h[UP]['data_offsets']]
    return change


def transpose(h):
    h[UP]['shape'] = [HIDDEN, INNER]


def set_field(field, what):
    def change(h):
        h[UP][field] = what
    return change


def data(line):
    """A line after two good ones."""
    def breaks():
        good = read('data.jsonl').splitlines(keepends=True)[:2]
        write('data.jsonl', b''.join(good) + (line if isinstance(line, bytes) else line.encode()) + b'\n')
    return breaks


def settings(lines):
    """Lines behind the good ones; the first is number 10."""
    return lambda: write('config.yaml', read('config.yaml') + (lines if isinstance(lines, bytes) else lines.encode()))


def in_checkpoint(name, change):
    def breaks():
        path = checkpoint(name)
        write(path, change(read(path)))
    return breaks


def small_disk(command):
    """The command where 400 KiB of the disk are free."""
    return ['env', f'LD_PRELOAD={SHIM}', 'SHIM_FREE=400000', XFT] + command.split()


def cut_gzip():
    write('data.jsonl', gzip.compress(read('data.jsonl') * 50)[:-20])


def folder_for(path):
    def breaks():
        os.remove(path)
        os.mkdir(path)
    return breaks


def small_vocabulary():
    h, d = read_safetensors(WEIGHTS)
    name, rows = 'model.embed_tokens.weight', 300
    gone = 4 * HIDDEN * (VOCABULARY - rows)
    begin = h[name]['data_offsets'][0]
    for t in h.values():
        t['data_offsets'] = [o - gone if o > begin else o for o in t['data_offsets']]
    h[name]['shape'][0] = rows
    write_safetensors(WEIGHTS, h, d[:begin + 4 * HIDDEN * rows] + d[begin + 4 * HIDDEN * VOCABULARY:])
    edit_json('model/config.json', vocab_size=rows)


def coefficients(content):
    return text('coefficients.json', content)


GIVEN = MERGE + ' --no-resume --merge-kind given --coefficients coefficients.json'
nothing = lambda: None

# name, what breaks, command, what the message must say (regular expression), exit codes
CASES = [
    # Weights
    ('weights/truncated', bytes_of(lambda b: b[:-100]), UPCYCLE, r'model\.safetensors.*(tensor|bytes|end)', 1),
    ('weights/empty-file', bytes_of(lambda b: b''), UPCYCLE, r'model\.safetensors', 1),
    ('weights/header-beyond-file', bytes_of(lambda b: struct.pack('<Q', len(b)) + b[8:]), UPCYCLE,
     r'model\.safetensors.*header', 1),
    ('weights/huge-header', bytes_of(lambda b: struct.pack('<Q', 1 << 60) + b[8:]), UPCYCLE,
     r'model\.safetensors.*header', 1),
    ('weights/header-no-json', bytes_of(lambda b: b[:8] + b'{{' + b[10:]), UPCYCLE, r'model\.safetensors.*header', 1),
    ('weights/header-list', lambda: write_safetensors(WEIGHTS, b'[]', b''), UPCYCLE, r'model\.safetensors', 1),
    ('weights/gap', header(shift(4)), UPCYCLE, r'model\.safetensors.*(up_proj|down_proj)', 1),
    ('weights/overlap', header(shift(-4)), UPCYCLE, r'model\.safetensors.*(up_proj|gate_proj)', 1),
    ('weights/offsets-outside', header(shift(1 << 40)), UPCYCLE, r'model\.safetensors.*up_proj.*outside', 1),
    ('weights/unknown-dtype', header(set_field('dtype', 'F31')), UPCYCLE, r'up_proj.*unknown dtype "F31"', 1),
    ('weights/wrong-dtype', header(wrong_dtype), UPCYCLE, r'model\.safetensors.*up_proj.*I32', 1),
    ('weights/negative-shape', header(set_field('shape', [-1, 32])), UPCYCLE, r'up_proj.*shape', 1),
    ('weights/shape-and-size-disagree', header(set_field('shape', [INNER, HIDDEN + 1])), UPCYCLE,
     r'model\.safetensors.*up_proj', 1),
    ('weights/transposed', header(transpose), UPCYCLE, r'model\.safetensors.*up_proj.*config\.json', 1),
    ('weights/missing-tensor', drop_tensor, UPCYCLE, r'model.*down_proj.*missing', 1),
    ('weights/extra-tensor', add_tensor, UPCYCLE, r'model\.safetensors.*extra\.weight', 1),
    ('weights/name-twice', twice, UPCYCLE, r'model\.safetensors.*(duplicate|twice)', 1),
    ('weights/nan', value(float('nan')), UPCYCLE, r'model\.safetensors.*up_proj.*element 10 is not finite', 1),
    ('weights/infinity', value(float('-inf')), EVAL, r'model\.safetensors.*up_proj.*element 10 is not finite', 1),
    ('weights/no-file', remove(WEIGHTS), UPCYCLE, r'model\.safetensors.*No such file', 1),
    ('weights/folder-instead', folder_for(WEIGHTS), UPCYCLE, r'model\.safetensors', 1),
    ('shards/missing', shards(lambda i: os.remove('model/1.safetensors')), UPCYCLE, r'1\.safetensors.*No such file', 1),
    ('shards/in-another-file', shards(lambda i: i['weight_map'].update({UP: '0.safetensors'} if
                                      i['weight_map'][UP][0] == '1' else {UP: '1.safetensors'})), UPCYCLE,
     r'index\.json.*up_proj', 1),
    ('shards/outside-the-folder', shards(lambda i: i['weight_map'].update({UP: '../moe/model.safetensors'})), UPCYCLE,
     r'\.\./moe/model\.safetensors', 1),
    ('shards/no-map', shards(lambda i: i.pop('weight_map')), UPCYCLE, r'index\.json.*weight_map', 1),
    ('shards/index-no-json', lambda: (os.remove(WEIGHTS), write('model/model.safetensors.index.json', '{"weight')),
     UPCYCLE, r'index\.json', 1),
    # config.json
    ('config/no-file', remove('model/config.json'), UPCYCLE, r'model/config\.json.*No such file', 1),
    ('config/no-folder', nothing, UPCYCLE.replace('--model model', '--model nowhere'), r'nowhere.*No such file', 1),
    ('config/no-json', text('model/config.json', '{"model_type": '), UPCYCLE, r'config\.json', 1),
    ('config/list', text('model/config.json', '[]'), UPCYCLE, r'config\.json', 1),
    ('config/invalid-utf8', text('model/config.json', b'{"model_type": "\xff\xfe"}'), UPCYCLE, r'config\.json', 1),
    ('config/unknown-architecture', config(model_type='gpt2'), UPCYCLE, r'config\.json.*model_type.*gpt2', 1),
    ('config/no-theta', config(rope_theta=KeyError), UPCYCLE, r'config\.json.*rope_theta', 1),
    ('config/activation', config(hidden_act='gelu'), UPCYCLE, r'config\.json.*hidden_act.*gelu', 1),
    ('config/mlp-bias', config(mlp_bias=True), UPCYCLE, r'config\.json.*mlp_bias', 1),
    ('config/tensor-parallel', config(pretraining_tp=2), UPCYCLE, r'config\.json.*pretraining_tp', 1),
    ('config/rope-scaling', config(rope_scaling=dict(type='yarn', factor=2.0)), UPCYCLE, r'config\.json.*yarn', 1),
    ('config/wrong-type', config(hidden_size='32'), UPCYCLE, r'config\.json.*hidden_size', 1),
    ('config/heads', config(num_attention_heads=5), UPCYCLE, r'config\.json.*heads', 1),
    ('config/negative', config(num_hidden_layers=-1), UPCYCLE, r'config\.json.*num_hidden_layers', 1),
    ('config/huge', config(num_hidden_layers=4000000000, vocab_size=4000000000), UPCYCLE,
     r'(config\.json.*(layers|vocab)|memory|space)', 1),
    ('config/more-layers-than-weights', config(num_hidden_layers=3), UPCYCLE, r'layers\.2\..*missing', 1),
    ('config/fewer-layers-than-weights', config(num_hidden_layers=1), UPCYCLE, r'model\.safetensors.*layers\.1\.', 1),
    ('config/other-vocabulary', config(vocab_size=1600), UPCYCLE, r'embed_tokens.*config\.json', 1),
    ('config/moe-top-k', lambda: edit_json('moe/config.json', num_selects=9), MERGE, r'moe/config\.json.*num_selects',
     1),
    ('config/moe-gate', lambda: edit_json('moe/config.json', gate_type='Other'), MERGE, r'moe/config\.json.*gate_type',
     1),
    # Tokenizer
    ('tokenizer/no-file', remove('model/tokenizer.json'), TRAIN, r'model/tokenizer\.json.*No such file', 1),
    ('tokenizer/no-json', text('model/tokenizer.json', '{"model"'), TRAIN, r'model/tokenizer\.json', 1),
    ('tokenizer/unknown-model', lambda: edit_json('model/tokenizer.json', model=dict(type='Unigram', vocab=[])), TRAIN,
     r'tokenizer\.json.*Unigram', 1),
    ('tokenizer/unknown-component', lambda: edit_json('model/tokenizer.json', normalizer=dict(type='BertNormalizer')),
     TRAIN, r'tokenizer\.json.*BertNormalizer', 1),
    ('tokenizer/no-eos', text('model/tokenizer_config.json', '{}'), TRAIN, r'eos_token', 1),
    ('tokenizer/of-another-model', small_vocabulary, TRAIN, r'data\.jsonl:\d+: token.*vocabulary', 1),
    # Data
    ('data/no-file', remove('data.jsonl'), TRAIN, r'data\.jsonl: No such file', 1),
    ('data/folder-instead', folder_for('data.jsonl'), TRAIN, r'data\.jsonl: .*directory', 1),
    ('data/empty', text('data.jsonl', ''), TRAIN, r'data\.jsonl: holds no sample', 1),
    ('data/blank-lines-only', text('data.jsonl', '\n\n'), TRAIN, r'data\.jsonl: holds no sample', 1),
    ('data/invalid-utf8', data(b'{"prompt": "\xff", "completion": "b"}'), TRAIN, r'data\.jsonl:3: byte 0xff', 1),
    ('data/no-json', data('prompt: a'), TRAIN, r'data\.jsonl:3: ', 1),
    ('data/list', data('[1, 2]'), TRAIN, r'data\.jsonl:3: .*object', 1),
    ('data/line-cut', data('{"prompt": "a", "compl'), TRAIN, r'data\.jsonl:3: ', 1),
    ('data/unknown-form', data('{"text": "a"}'), TRAIN, r'data\.jsonl:3: .*instruction', 1),
    ('data/missing-field', data('{"instruction": "a"}'), TRAIN, r'data\.jsonl:3: .*response', 1),
    ('data/wrong-type', data('{"prompt": "a", "completion": 5}'), TRAIN, r'data\.jsonl:3: .*completion.*number', 1),
    ('data/unknown-role', data('{"messages": [{"role": "robot", "content": ""}]}'), TRAIN,
     r'data\.jsonl:3: messages\[0\].*robot', 1),
    ('data/all-skipped', text('data.jsonl', '{"prompt": "a", "completion": ""}\n'), TRAIN, r'data\.jsonl.*skipped', 1),
    ('data/cut-gzip', cut_gzip, TRAIN, r'data\.jsonl.*gzip', 1),
    ('data/template-needs-a-token', nothing, TRAIN + ' --template chatml', r'chatml.*<\|im_start\|>', 1),
    ('data/eval-empty', text('data.jsonl', ''), EVAL, r'data\.jsonl: holds no sample', 1),
    ('data/eval-file-broken', text('held.jsonl', '{'), TRAIN + ' --eval-data held.jsonl', r'held\.jsonl:1: ', 1),
    # Settings
    ('settings/no-file', remove('config.yaml'), TRAIN, r'config\.yaml.*No such file', (1, 2)),
    ('settings/no-yaml', settings('lr: [1\n'), TRAIN, r'config\.yaml:1[01]', (1, 2)),
    ('settings/invalid-utf8', settings(b'data: "\xff"\n'), TRAIN, r'config\.yaml', (1, 2)),
    ('settings/unknown-key', settings('epoch: 3\n'), TRAIN, r'config\.yaml:10.*epoch.*epochs', (1, 2)),
    ('settings/unknown-key-in-section', settings('tune:\n  laerning: 3\n  lrr: 1\n'), TRAIN, r'config\.yaml:11', (1, 2)),
    ('settings/wrong-type', settings('lr: fast\n'), TRAIN, r'config\.yaml:10.*lr.*fast', (1, 2)),
    ('settings/out-of-range', settings('epochs: 0\n'), TRAIN, r'config\.yaml:10.*epochs.*0', (1, 2)),
    ('settings/unknown-choice', settings('optimizer: sgd\n'), TRAIN, r'config\.yaml:10.*sgd.*adafactor', (1, 2)),
    ('settings/key-twice', settings('batch: 8\n'), TRAIN, r'config\.yaml:10.*batch', (1, 2)),
    ('settings/meaningless-in-section', settings('upcycle: {epochs: 3}\n'), TRAIN, r'config\.yaml:10.*epochs', (1, 2)),
    ('settings/list-for-a-number', settings('lr: [1, 2]\n'), TRAIN, r'config\.yaml:10.*lr', (1, 2)),
    ('settings/no-mapping', text('config.yaml', '- a\n- b\n'), TRAIN, r'config\.yaml', (1, 2)),
    ('settings/pipeline-file', settings('sft: {lr: x}\n'), RUN, r'config\.yaml:10.*lr.*x', (1, 2)),
    ('flags/unknown', nothing, TRAIN + ' --learning-rate 1', r'learning-rate', 2),
    ('flags/misspelt', nothing, TRAIN + ' --epoch 1', r'--epoch.*epochs', 2),
    ('flags/no-value', nothing, TRAIN + ' --lr', r'lr', 2),
    ('flags/no-number', nothing, TRAIN + ' --lr abc', r'lr.*abc', 2),
    ('flags/no-data', nothing, TRAIN.replace(' --data data.jsonl', ''), r'data', 2),
    ('flags/no-model', nothing, UPCYCLE.replace(' --model model', ''), r'model', 2),
    ('flags/unknown-command', nothing, 'trian', r'trian.*train', 2),
    ('flags/too-many-operands', nothing, 'inspect model moe', r'moe', 2),
    ('flags/unknown-template', nothing, TRAIN + ' --template alpaca', r'alpaca.*magicoder', 2),
    ('flags/unknown-device', nothing, UPCYCLE + ' --device vulkan:77', r'vulkan:77', (1, 2)),
    ('flags/unknown-device-name', nothing, TRAIN + ' --device NoSuchCard', r'NoSuchCard', (1, 2)),
    ('flags/more-picks-than-experts', nothing, UPCYCLE + ' --experts 4 --top-k 5', r'top.k.*5.*4', (1, 2)),
    ('flags/one-pick', nothing, UPCYCLE + ' --top-k 1', r'top.k.*1', (1, 2)),
    ('flags/longer-than-the-model', nothing, TRAIN + ' --length 4096', r'4096.*128', (1, 2)),
    ('flags/precision-without-bf16', nothing, TRAIN + ' --precision stochastic', r'stochastic|precision', (1, 2)),
    # Outputs
    ('output/below-a-file', nothing, UPCYCLE.replace('--output moe', '--output data.jsonl/moe'), r'data\.jsonl', 1),
    ('output/is-a-file', nothing, UPCYCLE.replace('--output moe', '--output data.jsonl'), r'data\.jsonl', 1),
    ('output/unwritable', nothing, TRAIN.replace('--output tuned', '--output /proc/tuned'), r'/proc/tuned', 1),
    ('output/full-upcycle', 'full', UPCYCLE + ' --experts 3', r'(moe|full).*(space|bytes|free|large)', 1),
    ('output/full-train', 'full', RESUME, r'stopped/checkpoints/step-\d+.*large', 1),
    ('output/full-merge', 'full', MERGE + ' --uniform --no-resume --lambda 0.3', r'(merged|full).*(space|bytes|free|large)', 1),
    ('output/no-space-upcycle', nothing, small_disk(UPCYCLE.replace('--output moe', '--output new --experts 32')),
     r'new.*disk space', 1),
    ('output/no-space-train', nothing, small_disk(TRAIN.replace('--output tuned', '--output new')), r'new.*disk space',
     1),
    # Wrong model for a stage, wrong files of a stage
    ('stage/upcycle-of-a-moe', nothing, UPCYCLE.replace('--model model --output moe', '--model moe --output twice'),
     r'moe', 1),
    ('stage/merge-of-a-dense-model', nothing, MERGE.replace('--model moe', '--model model'), r'model', 1),
    ('stage/output-is-the-model', nothing, UPCYCLE.replace('--output moe', '--output model'), r'model', (1, 2)),
    ('stage/coefficients-no-file', nothing, GIVEN, r'coefficients\.json.*No such file', 1),
    ('stage/coefficients-no-json', coefficients('[['), GIVEN, r'coefficients\.json', 1),
    ('stage/coefficients-layers', coefficients('[[1, 1, 1]]'), GIVEN, r'coefficients\.json.*layer', 1),
    ('stage/coefficients-experts', coefficients('[[1, 1], [1, 1]]'), GIVEN, r'coefficients\.json', 1),
    ('stage/coefficients-negative', coefficients('[[1, 1, 1], [-3, 1, 1]]'), GIVEN, r'coefficients\.json', 1),
    ('stage/problems-no-file', remove('problems.jsonl'), SCORE, r'problems\.jsonl.*No such file', 1),
    ('stage/problems-no-json', text('problems.jsonl', '{'), SCORE, r'problems\.jsonl:1', 1),
    ('stage/problems-field', text('problems.jsonl', '{"task_id": "a", "instruction": "b"}\n'), SCORE,
     r'problems\.jsonl:1.*(entry_point|test)', 1),
    ('generate/no-file', nothing, GENERATE + ' --file nowhere.txt', r'nowhere\.txt.*No such file', 1),
    ('generate/invalid-utf8', text('prompt.txt', b'a \xff'), GENERATE + ' --file prompt.txt', r'prompt\.txt: .*UTF-8.*0xff', 1),
    ('generate/broken-model', bytes_of(lambda b: b[:-1]), GENERATE + ' word', r'model\.safetensors', 1),
    ('generate/temperature', nothing, GENERATE + ' --temperature -1 word', r'temperature.*-1', 2),
    ('plan/no-config', remove('model/config.json'), 'plan --model model', r'model/config\.json.*No such file', 1),
    ('plan/fit', nothing, 'plan --model model --fit much', r'much', 2),
    ('bench/no-file', nothing, 'bench --compare nowhere.json other.json', r'nowhere\.json', (1, 2)),
    ('bench/no-json', text('a.json', '{"rows": ['), 'bench --compare a.json a.json', r'a\.json', 1),
    ('pipeline/broken-model', bytes_of(lambda b: b[:-1]), RUN, r'model/model\.safetensors', 1),
    ('pipeline/broken-data', data('{'), RUN, r'data\.jsonl:3: ', 1),
    ('pipeline/no-model', remove('model/config.json'), RUN, r'model/config\.json', 1),
    ('pipeline/no-file', nothing, RUN.replace('config.yaml', 'nowhere.yaml'), r'nowhere\.yaml.*No such file', (1, 2)),
    ('inspect/no-folder', nothing, 'inspect nowhere', r'nowhere', 1),
    ('inspect/truncated', bytes_of(lambda b: b[:5000]), INSPECT, r'model\.safetensors', 1),
    ('resume/other-settings', nothing, TRAIN + ' --lr 1e-3', r'tuned.*lr', 1),
    ('resume/other-data', text('data.jsonl', '{"prompt": "a", "completion": "b"}\n'), TRAIN, r'data', 1),
    ('resume/state-no-json', in_checkpoint('state.json', lambda b: b[:40]), RESUME, r'step-\d+/state\.json', 1),
    ('resume/state-cut', in_checkpoint('state.safetensors', lambda b: b[:-9]), RESUME,
     r'step-\d+/state\.safetensors', 1),
    ('resume/state-missing', lambda: os.remove(checkpoint('state.safetensors')), RESUME,
     r'step-\d+/state\.safetensors.*No such file', 1),
    ('resume/weights-cut', in_checkpoint('model.safetensors', lambda b: b[:-9]), RESUME,
     r'step-\d+/model\.safetensors', 1),
    ('resume/broken-run-json', text('tuned/run.json', '{"stage": '), TRAIN, r'tuned/run\.json', 1),
]

# ---- Runs -----------------------------------------------------------------------------------------------------------


def snapshot():
    """Every file of the outputs, with its content; but a run that goes on says so in run.json and log.jsonl."""
    found = {}
    for top in ('moe', 'tuned', 'merged', 'model', 'stopped'):
        for folder, _, names in os.walk(top):
            for name in names if folder != 'stopped' else set(names) - {'run.json', 'log.jsonl'}:
                path = os.path.join(folder, name)
                found[path] = os.readlink(path) if os.path.islink(path) else read(path)
    return found


def problems(done, before, pattern, codes):
    lines = [l for l in done.stderr.split('\n') if l.startswith('xft: ') and not l.startswith('xft: warning')]
    if done.returncode not in (codes if isinstance(codes, tuple) else (codes,)):
        yield f'exit code {done.returncode}'
    if len(lines) != 1:
        yield f'{len(lines)} messages'
    if not any(re.search(pattern, l) for l in lines):
        yield f'no {pattern}'
    if any(len(l) > 700 for l in lines):
        yield 'a message of more than 700 characters'
    after = snapshot()
    changed = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
    if changed:
        yield 'changed: ' + ', '.join(changed[:4])


def run_case(name, breaks, command, pattern, codes):
    limit = None
    if breaks == 'full':  # files end after that many bytes, as on a full disk
        limit = 250000
    else:
        breaks()
    before = snapshot()
    try:
        done = run(command, limit)
    except subprocess.TimeoutExpired:
        return 'does not end', ''
    return '; '.join(problems(done, before, pattern, codes)), done.stderr.strip()


def main():
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix='xft-bad-input-') as top:
        good = os.path.join(top, 'good')
        os.mkdir(good)
        os.chdir(good)
        make_good()
        for case in CASES:
            if ONLY and not any(word in case[0] for word in ONLY):
                continue
            place = os.path.join(top, 'case')
            shutil.copytree(good, place, symlinks=True)
            os.chdir(place)
            wrong, said = run_case(*case)
            os.chdir(top)
            shutil.rmtree(place)
            if wrong:
                failed += 1
                print(f'FAILED   {case[0]}: {wrong}\n         {said}')
            else:
                passed += 1
                print(f'ok       {case[0]}: {said.splitlines()[-1]}')
            sys.stdout.flush()
    print(f'{passed} passed, {failed} failed')
    sys.exit(1 if failed else 0)


main()
