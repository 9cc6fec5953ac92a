#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include <trinix/autograd/ops/arithmetic.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/threads.h>
#include <trinix/layers/generate.h>
#include <trinix/layers/gpt.h>
#include <trinix/optim/adamw.h>
#include <trinix/optim/clip.h>
#include <trinix/optim/schedule.h>
#include <trinix/tools/lib/atomic_dir.h>
#include <trinix/tools/lib/checkpoint.h>
#include <trinix/tools/lib/dataset.h>
#include <trinix/tools/lib/evaluate.h>
#include <trinix/tools/lib/file_io.h>
#include <trinix/tools/lib/interrupt.h>
#include <trinix/tools/lib/loss_plot.h>
#include <trinix/tools/lib/metrics.h>
#include <trinix/tools/lib/progress.h>
#include <trinix/tools/lib/run_lock.h>
#include <trinix/tools/lib/trainer.h>

namespace trinix::tools {

using detail::fail;

namespace {

constexpr std::size_t kCheckpointsKept = 2;
constexpr std::int64_t kSampleTokens = 300;

/// Seeds of independent streams derived from the run's one seed.
std::uint64_t stream_seed(std::int64_t seed, std::uint64_t stream) {
  return static_cast<std::uint64_t>(seed) * 0x9e3779b97f4a7c15ULL + stream;
}
constexpr std::uint64_t kTrainStream = 1;
constexpr std::uint64_t kEvaluationStream = 2;
constexpr std::uint64_t kSampleStream = 3;

/// The options of a resumed run: the checkpoint's, with those that were chosen anew on top. Those that make the model
/// what it is cannot change.
TrainConfig resumed_config(const TrainConfig& given, const TrainConfig& saved) {
  constexpr std::string_view fixed[] = {"block", "layers", "heads", "width", "bias", "tokenizer"};
  TrainConfig merged = saved;
  for (const std::string& name : given.chosen) {
    const ConfigField* field = find_field(name);
    if (field == nullptr) continue;
    const std::string value = value_text(given, *field);
    if (std::find(std::begin(fixed), std::end(fixed), field->name) != std::end(fixed) &&
        value != value_text(saved, *field)) {
      fail<ConfigError>("resume",
                        "--{} {} differs from the checkpoint's {}: a model cannot change its shape; leave the "
                        "flag out, or start a new run in another folder",
                        field->name, value, value_text(saved, *field));
    }
    apply(merged, {.name = std::string(field->name), .value = value, .source = "--" + std::string(field->name)});
  }
  merged.out = given.out;
  merged.resume = true;
  merged.chosen = given.chosen;
  validate(merged);
  return merged;
}

nn::GptConfig model_config(const TrainConfig& c, std::int64_t vocab_size, Generator* generator) {
  return {.vocab_size = vocab_size,
          .block_size = c.block,
          .layers = c.layers,
          .heads = c.heads,
          .width = c.width,
          .dropout = c.dropout,
          .bias = c.bias,
          .activation = Gelu::erf,  // as nanoGPT, whose recipes the presets are
          .generator = generator};
}

/// The name of the first parameter whose gradient is not finite.
std::string bad_gradient(const nn::Gpt& model) {
  for (const NamedTensor& p : model.named_parameters()) {
    if (p.tensor.grad().defined() && !std::isfinite(optim::grad_norm({p.tensor}))) return p.name;
  }
  return "an unknown parameter";
}

/// One run in one process.
class Run {
 public:
  Run(const TrainConfig& config, const TrainHooks& hooks)
      : hooks_(hooks), lock_(config.out), out_(config.out), config_(config), generator_(stream_seed(config.seed, 0)) {
    remove_leftovers(out_);
    if (std::filesystem::exists(out_ / "checkpoints")) remove_leftovers(out_ / "checkpoints");
    std::optional<Checkpoint> from;
    if (config.resume) {
      from = load_newest_checkpoint(out_, true, [&](std::string_view text) { remarks_.emplace_back(text); });
      config_ = resumed_config(config, from->state.config);
    } else if (!list_checkpoints(out_).empty()) {
      fail<ConfigError>("train", "'{}' already holds a run: go on with --resume, or choose another --out", config.out);
    }
    if (config_.threads > 0) set_num_threads(static_cast<int>(config_.threads));
    device_ = Device::parse(config_.device);
    if (parse_dtype(config_.dtype) != DType::f32 && parse_dtype(config_.dtype) != DType::f64) {
      fail<ConfigError>("train",
                        "--dtype {} needs master weights, which this version does not have yet: use f32 or f64",
                        config_.dtype);
    }
    load_data(from);
    build_model(from);
    // A run shorter than its warm-up never gets beyond it.
    schedule_ = std::make_unique<optim::CosineWithWarmup>(
        optim::DecayOptions{.lr = config_.lr,
                            .min_lr = config_.min_lr,
                            .warmup = config_.warmup,
                            .steps = std::max(config_.iters, config_.warmup + 1)});
  }

  TrainResult run() {
    TrainResult result;
    begin_ = std::chrono::steady_clock::now();
    Progress progress({.total_steps = config_.iters, .first_step = state_.step, .fd = hooks_.show_progress ? 1 : -1});
    announce(progress);
    MetricsWriter metrics(out_ / "metrics.jsonl", state_.step + 1);
    std::optional<InterruptGuard> interrupt;
    if (hooks_.handle_signals) interrupt.emplace("\nsaving a checkpoint; press Ctrl-C again to end at once\n");
    bool stop = state_.step >= config_.iters;
    while (!stop) {
      const MetricsRow step = train_step();
      MetricsRow row = step;
      const bool last = state_.step == config_.iters;
      const ProgressState shown{state_.step, row.loss, row.lr, row.tokens_per_second};
      progress.update(shown);
      if (last || due(config_.eval_interval)) {
        evaluate_into(row);
        progress.evaluated(shown, row.train_loss, row.val_loss);
        result.last_validation_loss = row.val_loss;
      }
      metrics.write(row);
      if (row.evaluated) draw_losses();
      const bool wanted = !hooks_.after_step || hooks_.after_step(state_.step, row.loss);
      const bool interrupted = interrupt && interrupt->requested();
      stop = last || interrupted || !wanted;
      if (stop || due(config_.checkpoint_interval)) save(checkpoint_name(state_.step));
      if (interrupted) result.exit_code = interrupt->exit_code();
    }
    progress.finish();
    result.steps = state_.step;
    result.best_validation_loss = state_.best_validation_loss;
    if (result.exit_code == 0 && state_.step >= config_.iters) result.sample = write_sample();
    return result;
  }

 private:
  void load_data(const std::optional<Checkpoint>& from) {
    DataSetOptions options{.path = config_.data, .tokenizer = config_.tokenizer};
    if (from) {
      options.given = from->state.tokenizer;
      options.vocab_size = from->state.vocab_size;
    }
    data_ = std::make_unique<DataSet>(DataSet::load(options));
    data_->require_block(config_.block);
    if (from && data_->vocab_size() != from->state.vocab_size) {
      fail<ConfigError>("resume", "the data has a vocabulary of {}, the checkpoint's model one of {}",
                        data_->vocab_size(), from->state.vocab_size);
    }
  }

  void build_model(const std::optional<Checkpoint>& from) {
    model_ = std::make_unique<nn::Gpt>(model_config(config_, data_->vocab_size(), &generator_));
    if (from) model_->load_state_dict(from->model);
    model_->to(parse_dtype(config_.dtype));
    model_->to(device_);
    parameters_ = model_->parameters();
    optimizer_ = std::make_unique<optim::AdamW>(optim::decay_groups(
        *model_, optim::AdamWOptions{
                     .lr = config_.lr, .betas = {config_.beta1, config_.beta2}, .weight_decay = config_.weight_decay}));
    if (from) {
      optimizer_->load_state_dict(from->optimizer);
      state_ = from->state;
      generator_.set_state(from->state.generator);
    }
    state_.config = config_;
    state_.vocab_size = data_->vocab_size();
    state_.tokenizer = data_->tokenizer();
    earlier_seconds_ = state_.elapsed_s;
  }

  void announce(Progress& progress) {
    for (const std::string& remark : remarks_) progress.note(remark);
    progress.note(data_->describe());
    progress.note(
        detail::format("{} parameters, {} layers, {} heads, width {}, block {}; batch {} x {}, {} threads, {}",
                       model_->num_parameters(), config_.layers, config_.heads, config_.width, config_.block,
                       config_.batch, config_.grad_accum, num_threads(), device_));
    if (state_.step > 0) progress.note(detail::format("going on after step {}", state_.step));
  }

  [[nodiscard]] bool due(std::int64_t interval) const { return interval > 0 && state_.step % interval == 0; }

  [[nodiscard]] double elapsed() const {
    const std::chrono::duration<double> now = std::chrono::steady_clock::now() - begin_;
    return earlier_seconds_ + now.count();
  }

  /// Forward and backward of grad_accum batches, clipping, one step of the optimizer.
  MetricsRow train_step() {
    const auto start = std::chrono::steady_clock::now();
    MetricsRow row{.step = state_.step + 1, .lr = schedule_->at(state_.step)};
    optimizer_->set_lr(row.lr);
    optimizer_->zero_grad();
    for (std::int64_t i = 0; i < config_.grad_accum; ++i) {
      const Batch batch = random_batch(*data_, Split::train, config_.batch, config_.block,
                                       stream_seed(config_.seed, kTrainStream), state_.data_position, device_);
      state_.data_position += static_cast<std::uint64_t>(config_.batch);
      const double share = 1.0 / static_cast<double>(config_.grad_accum);
      const Tensor loss = model_->loss(batch.inputs, batch.targets);
      loss.backward(full_like(loss, share));
      row.loss += loss.item<double>() * share;
    }
    row.grad_norm = optim::grad_norm(parameters_);
    check_finite(row);
    const double scale = config_.clip > 0 ? optim::clip_scale(row.grad_norm, config_.clip) : 1.0;
    optimizer_->step({.grad_scale = scale});
    ++state_.step;
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    row.tokens_per_second = static_cast<double>(config_.batch * config_.block * config_.grad_accum) / took.count();
    row.elapsed_s = elapsed();
    return row;
  }

  /// Before the optimizer has touched anything.
  void check_finite(const MetricsRow& row) const {
    if (!std::isfinite(row.loss)) {
      fail<AutogradError>("train", "the loss of step {} is {}; nothing was changed, the last checkpoint is good",
                          row.step, row.loss);
    }
    if (!std::isfinite(row.grad_norm)) {
      fail<AutogradError>("train",
                          "the gradient of {} at step {} is not finite; nothing was changed, the last checkpoint "
                          "is good",
                          bad_gradient(*model_), row.step);
    }
  }

  void evaluate_into(MetricsRow& row) {
    EvaluateOptions options{.rows = config_.batch,
                            .block = config_.block,
                            .iters = config_.eval_iters,
                            .seed = stream_seed(config_.seed, kEvaluationStream)};
    row.evaluated = true;
    row.val_loss = evaluate(*model_, *data_, Split::validation, options);
    // A whole pass over the training part would take longer than the training; its curve is drawn anyway.
    if (options.iters > 0) row.train_loss = evaluate(*model_, *data_, Split::train, options);
    if (row.val_loss < state_.best_validation_loss) {
      state_.best_validation_loss = row.val_loss;
      save("best");
    }
  }

  void save(const std::string& name) {
    state_.generator = generator_.state();
    state_.schedule = schedule_->state();
    state_.elapsed_s = elapsed();
    save_checkpoint(out_, name, state_, model_->state_dict(), optimizer_->state_dict());
    prune_checkpoints(out_, kCheckpointsKept);
  }

  void draw_losses() const {
    const auto rows = read_metrics(out_ / "metrics.jsonl");
    const std::string subtitle =
        detail::format("{} parameters, batch {} x {} tokens, learning rate {} to {}", model_->num_parameters(),
                       config_.batch * config_.grad_accum, config_.block, config_.lr, config_.min_lr);
    replace_file(out_ / "loss.svg", loss_svg(loss_plot(rows, "Cross-entropy per token", subtitle)), /*durable=*/false);
  }

  [[nodiscard]] std::string write_sample() {
    if (data_->tokenizer() == nullptr) return {};
    const Tokenizer& tokenizer = *data_->tokenizer();
    std::vector<std::int64_t> prompt = {0};
    for (const std::int32_t id : start_ids(tokenizer)) prompt = {id};
    Generator generator(stream_seed(config_.seed, kSampleStream));
    const auto ids = nn::generate(
        *model_, prompt,
        {.max_new_tokens = kSampleTokens, .sampling = {.temperature = 0.8, .top_k = 200}, .generator = &generator});
    return tokenizer.decode(std::vector<std::int32_t>(ids.begin(), ids.end()));
  }

  /// A line break where the vocabulary has one.
  static std::vector<std::int32_t> start_ids(const Tokenizer& tokenizer) {
    try {
      return tokenizer.encode("\n");
    } catch (const TokenizerError&) {
      return {};
    }
  }

  TrainHooks hooks_;
  RunLock lock_;
  std::filesystem::path out_;
  TrainConfig config_;
  Generator generator_;
  Device device_;
  std::vector<std::string> remarks_;
  std::unique_ptr<DataSet> data_;
  std::unique_ptr<nn::Gpt> model_;
  std::vector<Tensor> parameters_;
  std::unique_ptr<optim::AdamW> optimizer_;
  std::unique_ptr<optim::Schedule> schedule_;
  TrainerState state_;
  double earlier_seconds_ = 0;
  std::chrono::steady_clock::time_point begin_;
};

}  // namespace

TrainResult train(const TrainConfig& config, const TrainHooks& hooks) {
  validate(config);
  return Run(config, hooks).run();
}

}  // namespace trinix::tools
