#include <algorithm>
#include <cmath>
#include <limits>

#include <trinix/core/detail/fail.h>
#include <trinix/core/device.h>
#include <trinix/core/dtype.h>
#include <trinix/core/error.h>
#include <trinix/tools/lib/config.h>
#include <trinix/tools/lib/number.h>
#include <trinix/tools/lib/tokenizer.h>

namespace trinix::tools {

namespace {

using C = TrainConfig;

constexpr std::string_view kRun = "Run";
constexpr std::string_view kModel = "Model";
constexpr std::string_view kOptimization = "Optimization";
constexpr std::string_view kSchedule = "Learning rate";
constexpr std::string_view kEvaluation = "Evaluation and checkpoints";
constexpr std::string_view kMachine = "Machine";

// clang-format off
constexpr ConfigField kFields[] = {
    {"data", &C::data, kRun, "text file, or nanoGPT's .bin of uint16 token ids; without it, this repository's source text"},
    {"out", &C::out, kRun, "folder of the run: checkpoints, metrics.jsonl, loss.svg"},
    {"preset", &C::preset, kRun, "where the defaults come from: char-cpu or shakespeare-char"},
    {"tokenizer", &C::tokenizer, kRun, "char or byte"},
    {"seed", &C::seed, kRun, "seed of the weights, the batches and the dropout"},
    {"resume", &C::resume, kRun, "go on from the newest checkpoint in the folder of the run"},
    {"model", &C::model, kModel, "gpt or llama (RMSNorm, rotary positions, gated MLP)"},
    {"layers", &C::layers, kModel, "transformer blocks"},
    {"heads", &C::heads, kModel, "attention heads; must divide the width"},
    {"width", &C::width, kModel, "size of the embedding"},
    {"block", &C::block, kModel, "tokens of context"},
    {"dropout", &C::dropout, kModel, "probability of dropping an activation"},
    {"attention", &C::attention, kModel, "mha, gqa (see --kv-heads), mqa (one head of keys) or mla (see --latent)"},
    {"kv-heads", &C::kv_heads, kModel, "heads of keys and values for --attention gqa; must divide the heads"},
    {"latent", &C::latent, kModel, "width of the latent of --attention mla; 0 takes an eighth of the width, at least 16"},
    {"rope-head-dim", &C::rope_head_dim, kModel, "columns of a head that carry the position, for DeepSeek's form of mla; 0 takes Trinix's"},
    {"position", &C::position, kModel, "learned (gpt only), rope, alibi or none; auto takes learned for gpt, rope for llama"},
    {"window", &C::window, kModel, "tokens before itself that a token sees; 0 for all"},
    {"qk-norm", &C::qk_norm, kModel, "normalise queries and keys: rms, layer or none"},
    {"bias", &C::bias, kModel, "biases in linear layers and layer norms", false},
    {"tied-head", &C::tied_head, kModel, "the output head is the token embedding", false},
    {"iters", &C::iters, kOptimization, "optimizer steps"},
    {"batch", &C::batch, kOptimization, "sequences per forward pass"},
    {"grad-accum", &C::grad_accum, kOptimization, "forward passes whose gradients one step averages"},
    {"clip", &C::clip, kOptimization, "largest global norm of the gradients; 0 does not clip"},
    {"optimizer", &C::optimizer, kOptimization, "adamw, adam, lion, muon (AdamW for all but hidden matrices) or sgd; each has defaults of its own"},
    {"weight-decay", &C::weight_decay, kOptimization, "decay of tensors with two or more dims; in the gradient (L2) with adam and sgd"},
    {"beta1", &C::beta1, kOptimization, "adamw, adam, lion, muon's AdamW: first beta"},
    {"beta2", &C::beta2, kOptimization, "adamw, adam, lion, muon's AdamW: second beta"},
    {"eps", &C::eps, kOptimization, "adamw, adam, muon's AdamW: added to the root of the second moment"},
    {"momentum", &C::momentum, kOptimization, "sgd, muon: momentum"},
    {"nesterov", &C::nesterov, kOptimization, "sgd, muon: Nesterov's form of momentum", false},
    {"muon-lr", &C::muon_lr, kOptimization, "muon: learning rate of the hidden matrices, in AdamW's units; it follows the schedule of --lr in proportion"},
    {"ema", &C::ema, kOptimization, "evaluate, and sample from, a moving average of the weights with this decay, such as 0.999; 0 does not"},
    {"schedule", &C::schedule, kSchedule, "constant, linear, cosine, wsd (warmup, stable, decay), polynomial, step, one-cycle or plateau"},
    {"lr", &C::lr, kSchedule, "learning rate after the warmup; the peak of one-cycle"},
    {"min-lr", &C::min_lr, kSchedule, "all but constant: learning rate at the last step, or the least one"},
    {"warmup", &C::warmup, kSchedule, "all but one-cycle: steps of linear warmup"},
    {"decay-steps", &C::decay_steps, kSchedule, "wsd: steps of the way down; 0 takes a fifth of --iters"},
    {"decay-shape", &C::decay_shape, kSchedule, "wsd: sqrt, linear or cosine"},
    {"power", &C::power, kSchedule, "polynomial: exponent"},
    {"step-every", &C::step_every, kSchedule, "step: steps between two falls; 0 takes a third of --iters"},
    {"gamma", &C::gamma, kSchedule, "step: what a fall multiplies the rate with"},
    {"rise", &C::rise, kSchedule, "one-cycle: the part of the steps that leads up"},
    {"start-lr", &C::start_lr, kSchedule, "one-cycle: learning rate of the first step; 0 takes a 25th of --lr"},
    {"plateau-factor", &C::plateau_factor, kSchedule, "plateau: what a fall multiplies the rate with"},
    {"plateau-patience", &C::plateau_patience, kSchedule, "plateau: evaluations without progress that are let pass"},
    {"plateau-threshold", &C::plateau_threshold, kSchedule, "plateau: progress is a validation loss below (1 - this) times the best"},
    {"eval-interval", &C::eval_interval, kEvaluation, "steps between evaluations; 0 evaluates only at the end"},
    {"eval-iters", &C::eval_iters, kEvaluation, "batches per evaluation; 0 takes the full validation set"},
    {"checkpoint-interval", &C::checkpoint_interval, kEvaluation, "steps between checkpoints; 0 saves only at the end"},
    {"grad-stats", &C::grad_stats, kEvaluation, "steps between statistics of every parameter's gradient in metrics.jsonl; 0 writes none"},
    {"threads", &C::threads, kMachine, "CPU threads; 0 takes OMP_NUM_THREADS or all cores"},
    {"device", &C::device, kMachine, "cpu, cuda or cuda:N"},
    {"dtype", &C::dtype, kMachine, "type of parameters and activations: f32, f64, or bf16 or f16 with f32 master weights"},
    {"loss-scale", &C::loss_scale, kMachine, "f16: what losses are multiplied by at the start; it then follows the gradients"},
    {"deterministic", &C::deterministic, kMachine, "bitwise the same run every time on the same machine"},
};
// clang-format on

/// Gives up with the sentence about one option. @param text fmt text whose first {} is the value
template <class... Args>
[[noreturn]] void refuse(std::string_view text, const Args&... args) {
  detail::fail<ConfigError>("config", text, args...);
}

void require_at_least(std::string_view name, std::int64_t value, std::int64_t least) {
  if (value < least) refuse("{} must be at least {}, not {}", name, least, value);
  // The sizes of tensors are products of these; this bound keeps any two of them within 64 bits.
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  if (value > most) refuse("{} must be at most {}, not {}", name, most, value);
}

void require_finite(std::string_view name, double value, bool positive) {
  if (!std::isfinite(value) || value < 0 || (positive && value == 0)) {
    refuse("{} must be a finite number {} 0, not {}", name, positive ? "above" : "of at least", real_text(value));
  }
}

void require_below_one(std::string_view name, double value) {
  if (!(value >= 0 && value < 1)) refuse("{} must be at least 0 and below 1, not {}", name, real_text(value));
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// "a, b, c"
std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::vector<std::string> others(std::vector<std::string> names, const std::string& but) {
  std::erase(names, but);
  return names;
}

void require_known(std::string_view name, const std::string& value, const std::vector<std::string>& allowed) {
  if (contains(allowed, value)) return;
  refuse("there is no {} '{}': choose one of {}", name, value, joined(allowed));
}

/// What belongs to the choice of model and attention.
void validate_model(const TrainConfig& c) {
  require_known("model", c.model, {"gpt", "llama"});
  require_known("attention", c.attention, {"mha", "gqa", "mqa", "mla"});
  require_known("position", c.position, {"auto", "learned", "rope", "alibi", "none"});
  require_known("qk-norm", c.qk_norm, {"none", "rms", "layer"});
  require_at_least("--kv-heads", c.kv_heads, 0);
  require_at_least("--latent", c.latent, 0);
  require_at_least("--rope-head-dim", c.rope_head_dim, 0);
  require_at_least("--window", c.window, 0);
  if (c.model == "llama" && c.position == "learned") {
    refuse("--position learned is for --model gpt; llama takes rope, alibi or none");
  }
  if (c.attention == "gqa") {
    if (c.kv_heads < 1 || c.heads % c.kv_heads != 0) {
      refuse("--kv-heads {} must be given and divide --heads {} for --attention gqa", c.kv_heads, c.heads);
    }
  } else if (c.kv_heads != 0) {
    refuse("--kv-heads {} needs --attention gqa, not {}", c.kv_heads, c.attention);
  }
  if (c.attention != "mla" && (c.latent != 0 || c.rope_head_dim != 0)) {
    refuse("--latent {} and --rope-head-dim {} need --attention mla, not {}", c.latent, c.rope_head_dim, c.attention);
  }
  if (c.rope_head_dim > 0 && c.qk_norm != "none") {
    refuse("--qk-norm {} cannot be combined with --rope-head-dim {}: there the latents are normalised", c.qk_norm,
           c.rope_head_dim);
  }
  const bool rotates = c.position == "rope" || (c.position == "auto" && c.model == "llama");
  const std::int64_t turned = c.rope_head_dim > 0 ? c.rope_head_dim : c.width / c.heads;
  if (rotates && turned % 2 != 0) {
    refuse("--position rope turns pairs of columns, but a head has {}: choose other --width {} or --heads {}", turned,
           c.width, c.heads);
  }
}

void validate_optimizer(const TrainConfig& c) {
  require_known("optimizer", c.optimizer, optimizer_names());
  require_finite("--lr", c.lr, true);
  require_finite("--muon-lr", c.muon_lr, true);
  require_finite("--weight-decay", c.weight_decay, false);
  require_finite("--eps", c.eps, false);
  require_finite("--loss-scale", c.loss_scale, true);
  require_below_one("--beta1", c.beta1);
  require_below_one("--beta2", c.beta2);
  require_below_one("--momentum", c.momentum);
  if (c.optimizer == "sgd" && c.nesterov && c.momentum == 0) {
    refuse("nesterov needs a --momentum above 0: set it to false in a file, or choose a momentum");
  }
}

void validate_schedule(const TrainConfig& c) {
  require_known("schedule", c.schedule, schedule_names());
  require_known("decay shape", c.decay_shape, {"sqrt", "linear", "cosine"});
  require_finite("--min-lr", c.min_lr, false);
  require_finite("--start-lr", c.start_lr, false);
  require_finite("--power", c.power, true);
  require_finite("--plateau-threshold", c.plateau_threshold, false);
  require_at_least("--decay-steps", c.decay_steps, 0);
  require_at_least("--step-every", c.step_every, 0);
  require_at_least("--plateau-patience", c.plateau_patience, 0);
  for (const auto& [name, value] :
       {std::pair{"--gamma", c.gamma}, {"--rise", c.rise}, {"--plateau-factor", c.plateau_factor}}) {
    if (!(value > 0 && value < 1)) refuse("{} must lie between 0 and 1, not {}", name, real_text(value));
  }
  if (c.schedule != "constant" && c.min_lr > c.lr) {
    refuse("--min-lr {} must not exceed --lr {}", real_text(c.min_lr), real_text(c.lr));
  }
  if (c.start_lr > c.lr) refuse("--start-lr {} must not exceed --lr {}", real_text(c.start_lr), real_text(c.lr));
  if (c.schedule == "wsd" && c.decay_steps + c.warmup > c.iters) {
    refuse("--decay-steps {} and --warmup {} do not fit into --iters {}", c.decay_steps, c.warmup, c.iters);
  }
  if (c.schedule == "plateau" && c.eval_interval == 0) {
    refuse("--schedule plateau follows the validation loss, so --eval-interval must be above 0");
  }
}

/// Options that only some optimizers, schedules or dtypes have: chosen for another, one would be ignored in silence.
void validate_choices(const TrainConfig& c) {
  struct Part {
    std::string_view option;
    std::string_view of;
    const std::string& chosen;
    std::vector<std::string> having;
  };
  const std::vector<std::string> adams = {"adamw", "adam", "muon"}, moments = {"adamw", "adam", "lion", "muon"};
  const Part parts[] = {{"beta1", "optimizer", c.optimizer, moments},
                        {"beta2", "optimizer", c.optimizer, moments},
                        {"eps", "optimizer", c.optimizer, adams},
                        {"momentum", "optimizer", c.optimizer, {"sgd", "muon"}},
                        {"nesterov", "optimizer", c.optimizer, {"sgd", "muon"}},
                        {"muon-lr", "optimizer", c.optimizer, {"muon"}},
                        {"min-lr", "schedule", c.schedule, others(schedule_names(), "constant")},
                        {"warmup", "schedule", c.schedule, others(schedule_names(), "one-cycle")},
                        {"decay-steps", "schedule", c.schedule, {"wsd"}},
                        {"decay-shape", "schedule", c.schedule, {"wsd"}},
                        {"power", "schedule", c.schedule, {"polynomial"}},
                        {"step-every", "schedule", c.schedule, {"step"}},
                        {"gamma", "schedule", c.schedule, {"step"}},
                        {"rise", "schedule", c.schedule, {"one-cycle"}},
                        {"start-lr", "schedule", c.schedule, {"one-cycle"}},
                        {"plateau-factor", "schedule", c.schedule, {"plateau"}},
                        {"plateau-patience", "schedule", c.schedule, {"plateau"}},
                        {"plateau-threshold", "schedule", c.schedule, {"plateau"}},
                        {"loss-scale", "dtype", c.dtype, {"f16"}}};
  for (const std::string& name : c.chosen) {
    for (const Part& part : parts) {
      if (part.option != name || contains(part.having, part.chosen)) continue;
      refuse("--{} is an option of --{} {}, but this run has {}", name, part.of, joined(part.having), part.chosen);
    }
  }
}

}  // namespace

std::span<const ConfigField> config_fields() { return kFields; }

const ConfigField* find_field(std::string_view name) {
  std::string spelled(name);
  std::replace(spelled.begin(), spelled.end(), '_', '-');
  const auto* found = std::find_if(std::begin(kFields), std::end(kFields), [&](auto& f) { return f.name == spelled; });
  return found == std::end(kFields) ? nullptr : found;
}

std::string value_text(const TrainConfig& config, const ConfigField& field) {
  struct Text {
    std::string operator()(const std::string& v) const { return v; }
    std::string operator()(std::int64_t v) const { return std::to_string(v); }
    std::string operator()(double v) const { return real_text(v); }
    std::string operator()(bool v) const { return v ? "true" : "false"; }
  };
  return std::visit([&](auto member) { return Text()(config.*member); }, field.member);
}

std::vector<std::string> optimizer_names() { return {"adamw", "adam", "lion", "muon", "sgd"}; }

std::vector<std::string> schedule_names() {
  return {"constant", "linear", "cosine", "wsd", "polynomial", "step", "one-cycle", "plateau"};
}

std::vector<std::string> preset_names() { return {"char-cpu", "shakespeare-char"}; }

TrainConfig preset(std::string_view name) {
  TrainConfig config;
  if (name == "char-cpu") return config;
  if (name == "shakespeare-char") {
    config.preset = name;
    config.iters = 5000;
    config.batch = 64;
    config.block = 256;
    config.layers = 6;
    config.heads = 6;
    config.width = 384;
    config.lr = 1e-3;
    config.dropout = 0.2;
    config.eval_iters = 200;
    return config;
  }
  refuse("there is no preset '{}': choose one of char-cpu, shakespeare-char", name);
}

void apply(TrainConfig& config, const ConfigChoice& choice) {
  const ConfigField* field = find_field(choice.name);
  if (field == nullptr) refuse("{}: there is no option of that name", choice.source);
  struct Set {
    const ConfigChoice& choice;
    void operator()(std::string& v) const { v = choice.value; }
    void operator()(std::int64_t& v) const {
      const auto parsed = parse_integer(choice.value);
      if (!parsed) refuse("{} must be a whole number, not '{}'", choice.source, choice.value);
      v = *parsed;
    }
    void operator()(double& v) const {
      const auto parsed = parse_real(choice.value);
      if (!parsed) refuse("{} must be a finite number, not '{}'", choice.source, choice.value);
      v = *parsed;
    }
    void operator()(bool& v) const {
      if (choice.value != "true" && choice.value != "false") {
        refuse("{} must be true or false, not '{}'", choice.source, choice.value);
      }
      v = choice.value == "true";
    }
  };
  std::visit([&](auto member) { Set{choice}(config.*member); }, field->member);
  const std::string name(field->name);
  if (std::find(config.chosen.begin(), config.chosen.end(), name) == config.chosen.end()) {
    config.chosen.push_back(name);
  }
}

TrainConfig resolve_config(std::span<const ConfigChoice> file, std::span<const ConfigChoice> flags) {
  TrainConfig named;
  for (const auto& choices : {file, flags}) {
    for (const auto& choice : choices) {
      if (choice.name == "preset") named.preset = choice.value;
      if (choice.name == "optimizer") named.optimizer = choice.value;
    }
  }
  TrainConfig config = recipe(named.preset, named.optimizer);
  for (const auto& choices : {file, flags}) {
    for (const auto& choice : choices) apply(config, choice);
  }
  validate(config);
  return config;
}

void validate(const TrainConfig& c) {
  (void)preset(c.preset);
  if (c.out.empty()) refuse("--out must name a folder");
  require_at_least("--iters", c.iters, 1);
  require_at_least("--batch", c.batch, 1);
  require_at_least("--block", c.block, 1);
  require_at_least("--layers", c.layers, 1);
  require_at_least("--heads", c.heads, 1);
  require_at_least("--width", c.width, 1);
  require_at_least("--grad-accum", c.grad_accum, 1);
  require_at_least("--warmup", c.warmup, 0);
  require_at_least("--eval-interval", c.eval_interval, 0);
  require_at_least("--eval-iters", c.eval_iters, 0);
  require_at_least("--checkpoint-interval", c.checkpoint_interval, 0);
  require_at_least("--threads", c.threads, 0);
  if (c.seed < 0) refuse("--seed must be at least 0, not {}", c.seed);
  if (c.width % c.heads != 0) {
    refuse("--heads {} must divide --width {}, for each head takes an equal part of it", c.heads, c.width);
  }
  validate_model(c);
  require_at_least("--grad-stats", c.grad_stats, 0);
  require_finite("--clip", c.clip, false);
  require_below_one("--dropout", c.dropout);
  require_below_one("--ema", c.ema);
  validate_optimizer(c);
  validate_schedule(c);
  validate_choices(c);
  if (!is_tokenizer_name(c.tokenizer)) {
    refuse("there is no tokenizer '{}': choose one of {}", c.tokenizer, tokenizer_names());
  }
  (void)Device::parse(c.device);
  if (!is_floating(parse_dtype(c.dtype))) refuse("--dtype must be f32, f64, bf16 or f16, not {}", c.dtype);
}

}  // namespace trinix::tools
