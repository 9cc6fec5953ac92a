#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include <trinix/core/backend.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/threads.h>
#include <trinix/layers/generate.h>
#include <trinix/layers/language_model.h>
#include <trinix/optim/ema.h>
#include <trinix/optim/grad_scaler.h>
#include <trinix/optim/grad_statistics.h>
#include <trinix/optim/optimizer.h>
#include <trinix/tools/lib/atomic_dir.h>
#include <trinix/tools/lib/checkpoint.h>
#include <trinix/tools/lib/checkpoint_saver.h>
#include <trinix/tools/lib/dataset.h>
#include <trinix/tools/lib/evaluate.h>
#include <trinix/tools/lib/file_io.h>
#include <trinix/tools/lib/interrupt.h>
#include <trinix/tools/lib/loss_plot.h>
#include <trinix/tools/lib/machine.h>
#include <trinix/tools/lib/metrics.h>
#include <trinix/tools/lib/model.h>
#include <trinix/tools/lib/optimization.h>
#include <trinix/tools/lib/progress.h>
#include <trinix/tools/lib/resume.h>
#include <trinix/tools/lib/run_lock.h>
#include <trinix/tools/lib/throughput.h>
#include <trinix/tools/lib/trainer.h>
#include <trinix/tools/lib/training_step.h>

namespace trinix::tools {

using detail::fail;

namespace {

constexpr std::int64_t kSampleTokens = 300;

/// Seeds of independent streams derived from the run's one seed.
std::uint64_t stream_seed(std::int64_t seed, std::uint64_t stream) {
  return static_cast<std::uint64_t>(seed) * 0x9e3779b97f4a7c15ULL + stream;
}
constexpr std::uint64_t kTrainStream = 1;
constexpr std::uint64_t kEvaluationStream = 2;
constexpr std::uint64_t kSampleStream = 3;

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
    require_machine(config_);
    deterministic_.emplace(config_.deterministic);
    if (config_.threads > 0) set_num_threads(static_cast<int>(config_.threads));
    device_ = Device::parse(config_.device);
    card_ = card_name(device_);
    saver_.emplace(out_, CheckpointSaverOptions{.in_background = !device_.is_cpu()});
    load_data(from);
    build_model(from);
    step_ = std::make_unique<TrainingStep>(*model_, *optimizer_, *data_,
                                           TrainingStepOptions{.rows = config_.batch,
                                                               .block = config_.block,
                                                               .grad_accum = config_.grad_accum,
                                                               .clip = config_.clip,
                                                               .seed = stream_seed(config_.seed, kTrainStream),
                                                               .lr_ratio = lr_ratio(config_),
                                                               .scaler = scaler_.get(),
                                                               .ema = ema_.get()});
    schedule_ = make_schedule(config_);
    if (from) schedule_->remember(from->state.schedule);
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
    pace_.start();
    while (!stop) {
      start_step();
      const bool last = state_.step == config_.iters;
      const bool evaluates = last || due(config_.eval_interval);
      const bool saves = due(config_.checkpoint_interval);
      const bool looks = due(config_.grad_stats);
      const bool interrupted = interrupt && interrupt->requested();
      bool wanted = true;
      bool best = false;
      // An application that wants to see every step gets it before the next one begins.
      const bool wait = evaluates || saves || looks || interrupted || hooks_.after_step;
      const std::vector<StepResult> results = step_->finished(wait);
      const double tokens_per_second =
          pace_.per_second(static_cast<double>(step_->tokens()) * static_cast<double>(results.size()));
      for (const StepResult& done : results) {
        MetricsRow row{.step = done.step, .loss = done.loss, .lr = done.lr, .grad_norm = done.grad_norm};
        row.tokens_per_second = tokens_per_second;
        row.elapsed_s = elapsed();
        if (scaler_) row.loss_scale = done.loss_scale;
        if (looks && done.step == state_.step) {
          row.gradients = optim::grad_statistics(model_->named_parameters(), done.loss_scale);
        }
        const ProgressState shown = shown_state(row);
        progress.update(shown);
        if (evaluates && done.step == state_.step) {
          best = evaluate_into(row);
          progress.evaluated(shown, row.train_loss, row.val_loss);
          result.last_validation_loss = row.val_loss;
        }
        metrics.write(row);
        if (row.evaluated) draw_losses();
        if (hooks_.after_step) wanted = hooks_.after_step(done.step, done.loss) && wanted;
        if (scaler_) stop_if_nothing_helps(done);
      }
      stop = last || interrupted || !wanted;
      if (stop || saves || best) save({.step = stop || saves, .best = best});
      if (interrupted) result.exit_code = interrupt->exit_code();
      if (evaluates || saves) pace_.start();
    }
    saver_->wait();
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
    model_ = make_model(config_, data_->vocab_size(), &generator_);
    if (from) model_->load_state_dict(from->model);
    model_->to(parse_dtype(config_.dtype));
    model_->to(device_);
    optimizer_ = make_optimizer(config_, *model_);
    if (parse_dtype(config_.dtype) == DType::f16) {
      scaler_ =
          std::make_unique<optim::GradScaler>(device_, optim::GradScalerOptions{.init_scale = config_.loss_scale});
    }
    if (config_.ema > 0) ema_ = std::make_unique<optim::Ema>(model_->named_parameters(), config_.ema);
    if (from) {
      load_state({.optimizer = *optimizer_, .scaler = scaler_.get(), .ema = ema_.get()}, from->optimizer);
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
        detail::format("{}: {} parameters, {} layers, {} heads, width {}, block {}; batch {} x {}, {} threads, {}",
                       describe_model(config_), model_->num_parameters(), config_.layers, config_.heads, config_.width,
                       config_.block, config_.batch, config_.grad_accum, num_threads(),
                       device_.is_cpu() ? std::string("cpu") : device_.to_string() + " (" + card_ + ")"));
    if (state_.step > 0) progress.note(detail::format("going on after step {}", state_.step));
  }

  [[nodiscard]] bool due(std::int64_t interval) const { return interval > 0 && state_.step % interval == 0; }

  [[nodiscard]] double elapsed() const {
    const std::chrono::duration<double> now = std::chrono::steady_clock::now() - begin_;
    return earlier_seconds_ + now.count();
  }

  void start_step() {
    step_->start({.step = state_.step + 1, .lr = schedule_->at(state_.step), .data_position = state_.data_position});
    ++state_.step;
    state_.data_position += static_cast<std::uint64_t>(config_.batch * config_.grad_accum);
  }

  [[nodiscard]] ProgressState shown_state(const MetricsRow& row) const {
    ProgressState shown{row.step, row.loss, row.lr, row.tokens_per_second};
    if (device_.is_cpu()) return shown;
    shown.tflops = 1e-12 * row.tokens_per_second * flops_per_token(*model_);
    shown.peak_tflops = peak_tflops(card_, parse_dtype(config_.dtype)).value_or(ProgressState::kUnknown);
    shown.peak_memory_bytes = static_cast<double>(memory_stats(device_).peak_allocated);
    return shown;
  }

  /// @returns whether the model is the best so far
  [[nodiscard]] bool evaluate_into(MetricsRow& row) {
    EvaluateOptions options{.rows = config_.batch,
                            .block = config_.block,
                            .iters = config_.eval_iters,
                            .seed = stream_seed(config_.seed, kEvaluationStream)};
    row.evaluated = true;
    std::optional<optim::Ema::Scope> averaged;
    if (ema_) averaged.emplace(*ema_);
    row.val_loss = evaluate(*model_, *data_, Split::validation, options);
    // A whole pass over the training part would take longer than the training; its curve is drawn anyway.
    if (options.iters > 0) row.train_loss = evaluate(*model_, *data_, Split::train, options);
    schedule_->observe(row.val_loss);
    if (row.val_loss >= state_.best_validation_loss) return false;
    state_.best_validation_loss = row.val_loss;
    return true;
  }

  /// With the state saved, for whoever wants to look or to go on with a lower learning rate.
  void stop_if_nothing_helps(const StepResult& done) {
    if (done.skipped_in_row < scaler_->options().most_skipped) return;
    static_cast<void>(step_->finished(/*all=*/true));
    save({.step = true});
    saver_->wait();
    scaler_->check(done.skipped_in_row, done.loss_scale);
  }

  void save(const CheckpointSaver::Names& names) {
    state_.generator = generator_.state();
    state_.schedule = schedule_->state();
    state_.elapsed_s = elapsed();
    saver_->save(names, state_, model_->state_dict(),
                 saved_state({.optimizer = *optimizer_, .scaler = scaler_.get(), .ema = ema_.get()}));
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
    std::optional<optim::Ema::Scope> averaged;
    if (ema_) averaged.emplace(*ema_);
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
  std::optional<DeterministicScope> deterministic_;
  Device device_;
  std::string card_;  // its model; empty for the CPU
  std::vector<std::string> remarks_;
  std::unique_ptr<DataSet> data_;
  std::unique_ptr<nn::LanguageModel> model_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  std::unique_ptr<optim::GradScaler> scaler_;  // for f16
  std::unique_ptr<optim::Ema> ema_;            // where one is wanted
  std::unique_ptr<optim::Schedule> schedule_;
  std::unique_ptr<TrainingStep> step_;
  TrainerState state_;
  std::optional<CheckpointSaver> saver_;
  Pace pace_;
  double earlier_seconds_ = 0;
  std::chrono::steady_clock::time_point begin_;
};

}  // namespace

TrainResult train(const TrainConfig& config, const TrainHooks& hooks) {
  validate(config);
  if (!config.resume) require_machine(config);
  return Run(config, hooks).run();
}

}  // namespace trinix::tools
