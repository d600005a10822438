#!/usr/bin/env python3
"""Makes chat.table: what the published Jinja chat templates make of some conversations.

    python3 make_chat.py                    writes chat.table; needs jinja2

The programs are those of the models' tokenizer_config.json, rendered as transformers does it
(trim_blocks, lstrip_blocks). Two are changed where chat.h says so: mistral-v3 and -v3-tekken put
the system message first, not last. bitnet-gguf is given no system message (it would drop it).

A line: template NAME BOS EOS PROGRAM, then its cases:
        case OPEN ROLE:TEXT... = OUT
all texts in hexadecimal, OUT without a BOS at the beginning; OPEN is add_generation_prompt.
Lines "unknown PROGRAM": programs of other models.
"""
import pathlib

import jinja2
import jinja2.sandbox

HERE = pathlib.Path(__file__).parent

ALTERNATE = ("{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/"
             "...') }}")
MISTRAL_HEAD = r'''{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- [AVAILABLE_TOOLS]: the branches for tools are left out here #}
{{- bos_token }}
{%- for message in loop_messages %}
'''
GEMMA_TURNS = """{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        """ + ALTERNATE + """
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"""
LLAMA31 = r'''{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{{- "Cutting Knowledge Date: December 2023\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
'''
TEMPLATES = {
    # microsoft/bitnet-b1.58-2B-4T
    "bitnet": ("<|begin_of_text|>", "<|eot_id|>",
               "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content "
               "= message['role'] | capitalize + ': '+ message['content'] | trim + '<|eot_id|>' %}"
               "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
               "{{ content }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}"
               "{% endif %}"),
    # microsoft/BitNet, utils/convert-ms-to-gguf-bitnet.py
    "bitnet-gguf": ("<|begin_of_text|>", "<|end_of_text|>",
                    "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
                    "{% if message['role'] == 'user' %}{{ 'Human: ' + message['content'] + "
                    "'\\n\\nBITNETAssistant: ' + eos_token }}{% elif message['role'] == "
                    "'assistant' %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"),
    # meta-llama/Meta-Llama-3-8B-Instruct
    "llama3": ("<|begin_of_text|>", "<|eot_id|>",
               "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content "
               "= '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ "
               "message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content "
               "= bos_token + content %}{% endif %}{{ content }}{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>"
               "\n\n' }}{% endif %}"),
    # meta-llama/Llama-3.1-8B-Instruct without its tools
    "llama3.1": ("<|begin_of_text|>", "<|eot_id|>", LLAMA31),
    # meta-llama/Llama-2-7b-chat-hf
    "llama2": ("<s>", "</s>",
               "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
               "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = "
               "messages %}{% set system_message = false %}{% endif %}{% for message in "
               "loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
               + ALTERNATE +
               "{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = "
               "'<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
               "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] "
               "== 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
               "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + "
               "eos_token }}{% endif %}{% endfor %}"),
    # teknium/OpenHermes-2.5-Mistral-7B, HuggingFaceTB/SmolLM-135M-Instruct
    "chatml": ("<|im_start|>", "<|im_end|>",
               "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
               "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"),
    # HuggingFaceTB/SmolLM2-135M-Instruct
    "smollm2": ("<|im_start|>", "<|im_end|>",
                "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
                "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by "
                "Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
                "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
                "{{ '<|im_start|>assistant\n' }}{% endif %}"),
    # Qwen/Qwen2.5-7B-Instruct without its tools
    "qwen2.5": ("", "<|im_end|>",
                "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + "
                "messages[0]['content'] + '<|im_end|>\\n' }}{%- else %}{{- '<|im_start|>system\\nYou "
                "are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}"
                "{%- endif %}{%- for message in messages %}{%- if (message.role == 'user') or "
                "(message.role == 'system' and not loop.first) or (message.role == 'assistant') %}"
                "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
                "{%- endif %}{%- endfor %}{%- if add_generation_prompt %}"
                "{{- '<|im_start|>assistant\\n' }}{%- endif %}"),
    # tiiuae/Falcon3-7B-Instruct without its tools; allenai/Llama-3.1-Tulu-3-8B
    "falcon3": ("", "<|endoftext|>",
                "{% for message in messages %}{% if message['role'] == 'system' %}{{ '<|system|>\\n'"
                " + message['content'] + '\\n' }}{% elif message['role'] == 'user' %}"
                "{{ '<|user|>\\n' + message['content'] + '\\n' }}{% elif message['role'] == "
                "'assistant' %}{% if not loop.last %}{{ '<|assistant|>\\n' + message['content'] + "
                "eos_token + '\\n' }}{% else %}{{ '<|assistant|>\\n' + message['content'] + "
                "eos_token }}{% endif %}{% endif %}{% if loop.last and add_generation_prompt %}"
                "{{ '<|assistant|>\\n' }}{% endif %}{% endfor %}"),
    # HuggingFaceH4/zephyr-7b-beta, TinyLlama/TinyLlama-1.1B-Chat-v1.0
    "zephyr": ("<s>", "</s>",
               "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
               "{{ '<|user|>\n' + message['content'] + eos_token }}\n"
               "{% elif message['role'] == 'system' %}\n"
               "{{ '<|system|>\n' + message['content'] + eos_token }}\n"
               "{% elif message['role'] == 'assistant' %}\n"
               "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
               "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n"
               "{% endif %}\n{% endfor %}"),
    # google/gemma-3-1b-it without its images
    "gemma": ("<bos>", "<eos>",
              "{{ bos_token }}\n{%- if messages[0]['role'] == 'system' -%}\n    {%- set "
              "first_user_prefix = messages[0]['content'] + '\n\n' -%}\n    {%- set loop_messages = "
              "messages[1:] -%}\n{%- else -%}\n    {%- set first_user_prefix = \"\" -%}\n    "
              "{%- set loop_messages = messages -%}\n{%- endif -%}\n" + GEMMA_TURNS),
    # google/gemma-2-2b-it, which takes no system message
    "gemma/2": ("<bos>", "<eos>",
                "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System "
                "role not supported') }}{% endif %}{% for message in messages %}{% if "
                "(message['role'] == 'user') != (loop.index0 % 2 == 0) %}" + ALTERNATE +
                "{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
                "{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role "
                "+ '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if "
                "add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"),
    # microsoft/Phi-3.5-mini-instruct
    "phi3": ("<s>", "<|endoftext|>",
             "{% for message in messages %}{% if message['role'] == 'system' and message['content'] "
             "%}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == "
             "'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] "
             "== 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}"
             "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}"
             "{{ eos_token }}{% endif %}"),
    # deepseek-ai/DeepSeek-V3 without its tools
    "deepseek3": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>",
                  "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false "
                  "%}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, "
                  "is_output_first=true, system_prompt='', is_first_sp=true) %}{%- for message in "
                  "messages %}{%- if message['role'] == 'system' %}{%- if ns.is_first_sp %}{% set "
                  "ns.system_prompt = ns.system_prompt + message['content'] %}{% set "
                  "ns.is_first_sp = false %}{%- else %}{% set ns.system_prompt = ns.system_prompt + "
                  "'\n\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}{{bos_token}}"
                  "{{ns.system_prompt}}{%- for message in messages %}{%- if message['role'] == "
                  "'user' %}{%- set ns.is_tool = false -%}{{'<｜User｜>' + message['content']}}"
                  "{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is not "
                  "none %}{{'<｜Assistant｜>' + message['content'] + '<｜end▁of▁sentence｜>'}}"
                  "{%- endif %}{%- endfor -%}{% if add_generation_prompt and not ns.is_tool %}"
                  "{{'<｜Assistant｜>'}}{% endif %}"),
    # mistralai/Mistral-7B-Instruct-v0.2, later form
    "mistral-v1": ("<s>", "</s>",
                   "{%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = "
                   "messages[0]['content'] %}\n    {%- set loop_messages = messages[1:] %}\n"
                   "{%- else %}\n    {%- set loop_messages = messages %}\n{%- endif %}\n\n"
                   "{{- bos_token }}\n{%- for message in loop_messages %}\n    {%- if "
                   "(message['role'] == 'user') != (loop.index0 % 2 == 0) %}\n        "
                   + ALTERNATE + "\n    {%- endif %}\n    {%- if message['role'] == 'user' %}\n"
                   "        {%- if loop.first and system_message is defined %}\n            "
                   "{{- ' [INST] ' + system_message + '\\n\\n' + message['content'] + ' [/INST]' "
                   "}}\n        {%- else %}\n            {{- ' [INST] ' + message['content'] + ' "
                   "[/INST]' }}\n        {%- endif %}\n    {%- elif message['role'] == "
                   "'assistant' %}\n        {{- ' ' + message['content'] + eos_token}}\n"
                   "    {%- endif %}\n{%- endfor %}\n"),
    # mistralai/Mistral-Large-Instruct-2407, system message first
    "mistral-v3": ("<s>", "</s>", MISTRAL_HEAD + r'''
    {%- if message["role"] == "user" %}
        {%- if loop.first and system_message is defined %}
            {{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- endif %}
{%- endfor %}
'''),
    # mistralai/Mistral-Nemo-Instruct-2407, system message first
    "mistral-v3-tekken": ("<s>", "</s>", MISTRAL_HEAD + r'''
    {%- if message["role"] == "user" %}
        {%- if loop.first and system_message is defined %}
            {{- "[INST]" + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST]" + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- message["content"] + eos_token}}
    {%- endif %}
{%- endfor %}
'''),
    # mistralai/Mistral-Large-Instruct-2411
    "mistral-v7": ("<s>", "</s>",
                   "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
                   "{{ '[INST] ' + message['content'] + '[/INST]' }}{% elif message['role'] == "
                   "'system' %}{{ '[SYSTEM_PROMPT] ' + message['content'] + '[/SYSTEM_PROMPT]' }}"
                   "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + "
                   "eos_token }}{% endif %}{% endfor %}"),
    # the same for the tekken tokenizer
    "mistral-v7-tekken": ("<s>", "</s>",
                          "{{ bos_token }}{% for message in messages %}{% if message['role'] == "
                          "'user' %}{{ '[INST]' + message['content'] + '[/INST]' }}{% elif "
                          "message['role'] == 'system' %}{{ '[SYSTEM_PROMPT]' + "
                          "message['content'] + '[/SYSTEM_PROMPT]' }}{% elif message['role'] == "
                          "'assistant' %}{{ message['content'] + eos_token }}{% endif %}"
                          "{% endfor %}"),
}
CHATML_TURNS = ("{% for m in messages %}{{'<|im_start|>' + m['role'] + '\\n' + m['content'] + "
                "'<|im_end|>' + '\\n'}}{% endfor %}")
UNKNOWN = [
    # forms of rows with more: a standard system message, thoughts, BOS, trimmed messages, the day
    "{{ '<|im_start|>system\nYou are MiMo.<|im_end|>\n' }}" + CHATML_TURNS,
    CHATML_TURNS + "{{ '<|im_start|>assistant\n<think>\n' }}",
    CHATML_TURNS + "{% if enable_thinking %}{% endif %}{{ '<|im_start|>assistant\n' }}",
    "{{ bos_token }}" + CHATML_TURNS, CHATML_TURNS.replace("']}}", "'] | trim}}").replace("+ '<", "| trim + '<"),
    LLAMA31.replace('"26 Jul 2024"', "strftime_now('%d %b %Y')"), LLAMA31.replace("26 Jul 2024", ""),
    "{% set default_system_message = 'You are Mistral.' %}[SYSTEM_PROMPT] [INST]",
    "{% if true %}{% set system_message = 'Vous...' %}{% endif %}{{ '<<SYS>>\\n' + system_message }}"
    "{{ '[INST] ' + content.strip() + ' [/INST]' }}",
    "{{ bos_token }}{% if message['role'] == 'user' %}{{ '<|user|>\n' + message['content'] + '\n' }}"
    "{% else %}{{ '<|assistant|>\n' + message['content'] + eos_token + '\n' }}{% endif %}",
    # phi-4, the first phi-3, GLM-edge, ChatGLM4, no gemma, vicuna, Mistral-7B-Instruct-v0.1, R1
    "{% for m in messages %}{{'<|im_start|>user<|im_sep|>' + m['content']}}{% endfor %}",
    "{{'<|user|>' + '\n' + message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n'}}",
    "{% if item['role'] == 'user' %}<|user|>\n{{ item['content'] }}{% else %}<|assistant|>\n"
    "{{ item['content'] }}{% endif %}",
    "[gMASK]<sop>{{ '<|user|>\n' + message['content'] }}<|assistant|>",
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}",
    "{{'USER: ' + message['content'] + '\n'}}{{'ASSISTANT: ' + message['content'] + '</s>\n'}}",
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{{ message['content'] + eos_token}}",
    "{{'<｜User｜>' + message['content']}}{{'<｜Assistant｜><think>\n'}}",
    "{{'<｜User｜>' + message['content']}}{{'<｜Assistant｜>'}}{% if thinking %}{% endif %}",
    "x",
]

CONVERSATIONS = [
    [("u", "Hello")],
    [("s", "You are a rower."), ("u", "Hello")],
    [("u", "Hello"), ("a", "Hi there"), ("u", "Who are you?")],
    [("s", "You are a rower."), ("u", "Hello"), ("a", "Hi there"), ("u", "Who are you?"),
     ("a", "A trireme."), ("u", "Another question")],
    [("u", "Hello"), ("a", "Hi there")],
    [("s", " spaces \n"), ("u", "  around\n\n"), ("a", "\t all \u00a0\u3000"), ("u", "\x1c of us\n")],
    [("s", "sys"), ("u", "")], [("u", ""), ("a", ""), ("u", " \n ")], [("s", "sys"), ("u", " \n")],
    [("s", ""), ("u", "empty")],
    [("u", "漢字とかな 🚣 <|eot_id|> {{ braces }} 'quotes' \"too\" \\n"), ("a", "é\n\nü"), ("u", "ß")],
]
ROLES = {"s": "system", "u": "user", "a": "assistant"}


def raise_exception(text):
    raise ValueError(text)


def main():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    env.globals["raise_exception"] = raise_exception
    with open(HERE / "chat.table", "w", encoding="ascii") as f:
        for name, (bos, eos, program) in TEMPLATES.items():
            name = name.split("/")[0]
            f.write(f"template {name} {bos.encode().hex() or '-'} {eos.encode().hex()} "
                    f"{program.encode().hex()}\n")
            template = env.from_string(program)
            for turns in CONVERSATIONS:
                if (name == "bitnet-gguf" or "role not supported" in program) and turns[0][0] == "s":
                    continue
                messages = [{"role": ROLES[r], "content": t} for r, t in turns]
                for opened in (0, 1):
                    out = template.render(messages=messages, bos_token=bos, eos_token=eos,
                                          add_generation_prompt=bool(opened))
                    if bos and out.startswith(bos):
                        # chatml, smollm2: no BOS but the same text as its markup
                        out = out if name in ("chatml", "smollm2") else out[len(bos):]
                    f.write(f"case {opened} " +
                            " ".join(f"{r}:{t.encode().hex()}" for r, t in turns) +
                            f" = {out.encode().hex()}\n")
        for program in UNKNOWN:
            f.write(f"unknown {program.encode().hex()}\n")


main()
