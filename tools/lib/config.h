#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

/// @file
/// Every option of a training run as one struct, with the table from which flags, files and help are made.

namespace trinix::tools {

/// The options of `trinix train`. The defaults are the preset `char-cpu`.
struct TrainConfig {
  std::string data;         ///< text or .bin; empty: the source text of this repository
  std::string out = "out";  ///< folder of the run
  std::string preset = "char-cpu";
  std::string tokenizer = "char";
  std::int64_t seed = 1337;
  std::int64_t iters = 2000;  ///< optimizer steps
  std::int64_t batch = 12;    ///< sequences per forward pass
  std::int64_t block = 64;    ///< tokens per sequence
  std::int64_t layers = 4;
  std::int64_t heads = 4;
  std::int64_t width = 128;
  double dropout = 0;
  bool bias = false;          ///< biases in linear layers and layer norms
  std::string model = "gpt";  ///< gpt or llama
  std::string attention = "mha";
  std::int64_t kv_heads = 0;          ///< of attention gqa
  std::int64_t latent = 0;            ///< width of the latent of attention mla; 0: an eighth of the width, at least 16
  std::int64_t rope_head_dim = 0;     ///< of attention mla; positive: DeepSeek's form
  std::string position = "auto";      ///< learned, rope, alibi or none; auto: learned for gpt, rope for llama
  std::int64_t window = 0;            ///< tokens that one sees before itself; 0: no limit
  std::string qk_norm = "none";       ///< rms, layer or none
  bool tied_head = true;              ///< the output head is the token embedding
  std::string optimizer = "adamw";    ///< one of optimizer_names(); it has a recipe of its own
  double lr = 3e-3;                   ///< learning rate after the warmup
  double weight_decay = 0.1;          ///< of tensors with two or more dims
  double beta1 = 0.9;                 ///< of the moments of Adam, AdamW and Lion
  double beta2 = 0.99;                ///< likewise
  double eps = 1e-8;                  ///< of Adam and AdamW
  double momentum = 0.9;              ///< of SGD and Muon
  bool nesterov = true;               ///< SGD's and Muon's form of it
  double muon_lr = 6e-3;              ///< of the hidden matrices, in AdamW's units; `lr` is that of the rest
  std::string schedule = "cosine";    ///< one of schedule_names()
  std::int64_t warmup = 100;          ///< steps of linear warmup
  double min_lr = 1e-4;               ///< learning rate at the last step, or the least one
  double power = 2;                   ///< polynomial
  std::int64_t decay_steps = 0;       ///< wsd: steps of the way down; 0: a fifth of all
  std::string decay_shape = "sqrt";   ///< wsd: sqrt, linear or cosine
  std::int64_t step_every = 0;        ///< step: steps between two falls; 0: a third of all
  double gamma = 0.1;                 ///< step: what a fall multiplies with
  double rise = 0.3;                  ///< one-cycle: the part of the steps that leads up
  double start_lr = 0;                ///< one-cycle: learning rate of the first step; 0: lr / 25
  double plateau_factor = 0.5;        ///< plateau: what a fall multiplies with
  std::int64_t plateau_patience = 2;  ///< plateau: evaluations without progress that are let pass
  double plateau_threshold = 1e-3;    ///< plateau: progress is a loss below the best times one less this
  double clip = 1;                    ///< largest global norm of the gradients; 0: no clipping
  double ema = 0;                     ///< decay of the moving average of the weights; 0: none
  double loss_scale = 65536;          ///< f16: what losses are multiplied by at the start
  std::int64_t grad_accum = 1;        ///< forward passes whose gradients one step averages
  std::int64_t eval_interval = 250;   ///< steps between evaluations; 0: only at the end
  std::int64_t eval_iters = 20;       ///< batches per evaluation; 0: the whole validation set
  std::int64_t checkpoint_interval = 250;  ///< steps between checkpoints; 0: only at the end
  std::int64_t grad_stats = 0;             ///< steps between statistics of single gradients; 0: none
  std::int64_t threads = 0;                ///< CPU threads; 0: what OpenMP would use
  std::string device = "cpu";
  std::string dtype = "f32";
  bool deterministic = false;  ///< bitwise reproducible, or an error from an op that cannot be
  bool resume = false;         ///< go on from the newest checkpoint in `out`

  /// Names of the options that a flag or a file has set, in no order: when a run is resumed, the others come from its
  /// checkpoint. Not part of the JSON.
  std::vector<std::string> chosen;

  friend bool operator==(const TrainConfig&, const TrainConfig&) = default;
};

/// One option: where it lies and what people are told about it.
struct ConfigField {
  using Member =
      std::variant<std::string TrainConfig::*, std::int64_t TrainConfig::*, double TrainConfig::*, bool TrainConfig::*>;

  std::string_view name;  ///< as the flag is spelled without its dashes: "min-lr"
  Member member;
  std::string_view group;  ///< heading of the help
  std::string_view help;
  bool is_flag = true;  ///< false: only in files
};

/// All options in the order of the help.
[[nodiscard]] std::span<const ConfigField> config_fields();

/// The option of that name; '_' and '-' are the same. Null when there is none.
[[nodiscard]] const ConfigField* find_field(std::string_view name);

/// The value as text: "0.001", "true", "char".
[[nodiscard]] std::string value_text(const TrainConfig& config, const ConfigField& field);

/// "shakespeare-char", "char-cpu".
[[nodiscard]] std::vector<std::string> preset_names();

/// shakespeare-char is nanoGPT's train_shakespeare_char.py. char-cpu has the model and the batches of the CPU recipe in
/// nanoGPT's README, with three times its learning rate, which so small a model takes well (bench/RESULTS.md).
/// @throws ConfigError listing the names
[[nodiscard]] TrainConfig preset(std::string_view name);

/// "adamw", "adam", "lion", "muon", "sgd".
[[nodiscard]] std::vector<std::string> optimizer_names();
/// "constant", "linear", "cosine", "wsd", "polynomial", "step", "one-cycle", "plateau".
[[nodiscard]] std::vector<std::string> schedule_names();

/// The preset with the optimizer, and the learning rates, decay and so on that suit it there (tools/lib/recipe.cpp).
/// @throws ConfigError listing the names
[[nodiscard]] TrainConfig recipe(std::string_view preset_name, std::string_view optimizer);

/// One value that a flag or a file gave to one option.
struct ConfigChoice {
  std::string name;    ///< name of the option
  std::string value;   ///< as text
  std::string source;  ///< for errors: "--min-lr", "'min_lr' in 'run.toml', line 3"
};

/// The values in a file: JSON (an object) where the name ends in .json, else TOML (`key = value` lines without tables).
/// @throws IoError, FormatError with file and line
[[nodiscard]] std::vector<ConfigChoice> read_config_file(const std::filesystem::path& path);

/// As read_config_file(), of a text. @param source the file's name, for errors
[[nodiscard]] std::vector<ConfigChoice> choices_from_toml(std::string_view text, std::string_view source);
[[nodiscard]] std::vector<ConfigChoice> choices_from_json(std::string_view text, std::string_view source);

/// Sets one option. @throws ConfigError: no such option, not a number, ...
void apply(TrainConfig& config, const ConfigChoice& choice);

/// The recipe of the optimizer in the preset, overridden by the file, overridden by the flags; validated. Preset and
/// optimizer are named by a flag, else by the file, else they are `char-cpu` and `adamw`. @throws ConfigError
[[nodiscard]] TrainConfig resolve_config(std::span<const ConfigChoice> file, std::span<const ConfigChoice> flags);

/// @throws ConfigError with one sentence about the first value that makes no sense
void validate(const TrainConfig& config);

/// A JSON object of all options, for the checkpoint.
[[nodiscard]] std::string to_json(const TrainConfig& config);

/// What to_json() wrote. Options that are missing keep their default. @throws FormatError, ConfigError
[[nodiscard]] TrainConfig config_from_json(std::string_view text, std::string_view source);

}  // namespace trinix::tools
