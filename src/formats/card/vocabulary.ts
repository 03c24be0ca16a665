// The words that cards use by convention: licences, tasks, relations, sizes, as the ecosystem's clients filter by them.

const words = (text: string): ReadonlySet<string> => new Set(text.trim().split(/\s+/));

/** Lower-case and not SPDX. */
export const LICENSES = words(`
  apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m afl-3.0 artistic-2.0
  bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0
  cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
  cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
  agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0
  odc-by odbl openmdw-1.0 openmdw-1.1 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
  fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown other`);

export const PIPELINE_TAGS = words(`
  any-to-any audio-classification audio-text-to-text audio-to-audio automatic-speech-recognition depth-estimation
  document-question-answering feature-extraction fill-mask graph-ml image-classification image-feature-extraction image-segmentation
  image-text-to-image image-text-to-text image-text-to-video image-to-3d image-to-image image-to-text image-to-video keypoint-detection
  mask-generation multiple-choice object-detection other question-answering reinforcement-learning robotics sentence-similarity
  summarization table-question-answering table-to-text tabular-classification tabular-regression tabular-to-text text-classification
  text-generation text-ranking text-retrieval text-to-3d text-to-audio text-to-image text-to-speech text-to-video
  time-series-forecasting token-classification translation unconditional-image-generation video-classification video-text-to-text
  video-to-video visual-document-retrieval visual-question-answering voice-activity-detection zero-shot-classification
  zero-shot-image-classification zero-shot-object-detection`);

/** Libraries that a card may name by a mere tag. */
export const LIBRARIES = words(`
  adapter-transformers allennlp asteroid bertopic coreml diffusers espnet fairseq fastai fasttext flair gguf keras keras-hub llamafile
  ml-agents mlx mlx-image nemo open_clip paddlenlp peft pyannote-audio sample-factory sentence-transformers setfit sklearn spacy
  span-marker speechbrain stable-baselines3 stanza tensorflowtts tf-keras timm transformers transformers.js vllm ultralytics`);

export const RELATIONS = ["adapter", "merge", "quantized", "finetune"] as const;
export type Relation = (typeof RELATIONS)[number];

export const SIZE_CATEGORIES = words(
  "n<1K 1K<n<10K 10K<n<100K 100K<n<1M 1M<n<10M 10M<n<100M 100M<n<1B 1B<n<10B 10B<n<100B 100B<n<1T n>1T",
);

/** What a gated repository may ask of whoever wants its files. */
export const GATED_FIELD_TYPES = words("text checkbox date_picker country select ip_location");
