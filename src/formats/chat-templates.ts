// The chat formats that a recipe may name, as Jinja templates: how messages become the one text that a model reads.

/** Turns as `<|im_start|>role`, a line feed, the text, `<|im_end|>`. */
const chatml = `{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
`;

/** Turns as headers between `<|start_header_id|>` and `<|end_header_id|>`, each ended by `<|eot_id|>`. */
const llama3 = `{{- bos_token -}}
{%- for message in messages -%}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}
`;

/** User turns between [INST] and [/INST]; the system's text stands before the first of them, as the format has no turn for it. */
const mistral = `{%- set turn = namespace(system='') -%}
{{- bos_token -}}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{%- set turn.system = message['content'] + '\\n\\n' -%}
{%- elif message['role'] == 'user' -%}
{{- '[INST] ' + turn.system + message['content'] + ' [/INST]' -}}
{%- set turn.system = '' -%}
{%- else -%}
{{- ' ' + message['content'] + eos_token -}}
{%- endif -%}
{%- endfor -%}
`;

/** Turns as `### Instruction:` and `### Response:`, under the sentence that Stanford's data set begins with. */
const alpaca = `{%- if messages[0]['role'] != 'system' -%}
{{- 'Below is an instruction that describes a task. Write a response that appropriately completes the request.\\n\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{{- message['content'] + '\\n\\n' -}}
{%- elif message['role'] == 'user' -%}
{{- '### Instruction:\\n' + message['content'] + '\\n\\n' -}}
{%- else -%}
{{- '### Response:\\n' + message['content'] + eos_token + '\\n\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '### Response:\\n' -}}
{%- endif -%}
`;

/** Turns as `[|role|]`; the user's ends with a line feed, the others with `[|endofturn|]`. */
const exaone = `{%- if messages[0]['role'] != 'system' -%}
{{- '[|system|][|endofturn|]\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{{- '[|' + message['role'] + '|]' + message['content'] + ('\\n' if message['role'] == 'user' else '[|endofturn|]\\n') -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '[|assistant|]' -}}
{%- endif -%}
`;

export const CHAT_TEMPLATES: Readonly<Record<string, string>> = { alpaca, chatml, exaone, llama3, mistral };
