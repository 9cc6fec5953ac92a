#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

#include <trinix/core/detail/fail.h>
#include <trinix/tools/lib/progress.h>
#include <trinix/tools/lib/terminal.h>

namespace trinix::tools {

namespace {

constexpr int kLongestBar = 30;
constexpr int kShortestBar = 6;

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

bool known(double value) { return !std::isnan(value); }

/// A bar of that many columns, an eighth of a column fine where the characters for it can be printed.
std::string bar_text(double fraction, int width, bool utf8) {
  if (!utf8) {
    std::string bar(static_cast<std::size_t>(width) + 2, '.');
    bar.front() = '[';
    bar.back() = ']';
    std::fill_n(bar.begin() + 1, static_cast<int>(fraction * width), '#');
    return bar;
  }
  static constexpr std::array<const char*, 8> eighths = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const int filled = static_cast<int>(fraction * width * 8);
  std::string bar = "│";
  for (int i = 0; i < filled / 8; ++i) bar += "█";
  bar += eighths[static_cast<std::size_t>(filled % 8)];
  bar += std::string(static_cast<std::size_t>(width - (filled + 7) / 8), ' ');
  return bar + "│";
}

/// "412 TFLOP/s, 42% of 989"; without a peak only the first part.
std::string utilisation_text(const ProgressState& s) {
  std::string text = detail::format("{:.{}f} TFLOP/s", s.tflops, s.tflops < 9.95 ? 2 : s.tflops < 99.5 ? 1 : 0);
  if (known(s.peak_tflops))
    text += detail::format(", {:.0f}% of {:.0f}", 100 * s.tflops / s.peak_tflops, s.peak_tflops);
  return text;
}

std::string memory_text(double bytes) { return detail::format("{:.2f} GiB", bytes / (1 << 30)); }

}  // namespace

std::string duration_text(double seconds) {
  if (!(seconds >= 0 && seconds < 1e9)) return "?";
  const auto s = static_cast<std::int64_t>(std::llround(seconds));
  if (s >= 86400) return detail::format("{}d {:02}h", s / 86400, s / 3600 % 24);
  if (s >= 3600) return detail::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return detail::format("{}:{:02}", s / 60, s % 60);
}

std::string count_text(double count) {
  if (!std::isfinite(count)) return "?";
  const char* unit = "";
  for (const char* larger : {"k", "M", "G", "T"}) {
    // 999.95 would be rounded to 1000.
    if (count < 999.5) break;
    count /= 1000;
    unit = larger;
  }
  const int decimals = count >= 99.95 ? 0 : count >= 9.995 ? 1 : 2;
  return detail::format("{:.{}f}{}", count, decimals, unit);
}

Progress::Progress(ProgressOptions options)
    : options_(std::move(options)), live_(is_terminal(options_.fd)), utf8_(is_utf8_locale()) {
  if (!options_.clock) options_.clock = &steady_seconds;
  if (options_.line_interval <= 0) options_.line_interval = std::max<std::int64_t>(1, options_.total_steps / 40);
  state_.step = options_.first_step;
  started_ = options_.clock();
}

Progress::~Progress() { finish(); }

double Progress::seconds() const { return options_.clock() - started_; }

double Progress::seconds_left() const {
  const std::int64_t done = state_.step - options_.first_step;
  if (done <= 0) return ProgressState::kUnknown;
  return seconds() / static_cast<double>(done) * static_cast<double>(options_.total_steps - state_.step);
}

void Progress::update(const ProgressState& state) {
  state_ = state;
  if (live_) {
    if (options_.clock() - drawn_at_ >= options_.redraw_seconds) draw();
  } else if (state.step % options_.line_interval == 0 || state.step == options_.first_step + 1 ||
             state.step == options_.total_steps) {
    put_plain_line();
  }
}

void Progress::evaluated(const ProgressState& state, double train_loss, double validation_loss) {
  state_ = state;
  validation_loss_ = validation_loss;
  if (live_) {
    draw();
    return;
  }
  std::string line = detail::format("step {}/{}  evaluation:", state.step, options_.total_steps);
  if (known(train_loss)) line += detail::format(" train loss {:.4f}", train_loss);
  put(line + detail::format(" val loss {:.4f}\n", validation_loss));
}

void Progress::note(std::string_view line) {
  put(detail::format("{}{}\n", line_open_ ? "\r\x1b[K" : "", line));
  const bool was_open = line_open_;
  line_open_ = false;
  if (was_open) draw();
}

void Progress::finish() {
  if (!line_open_) return;
  draw();
  put("\n");
  line_open_ = false;
}

void Progress::draw() {
  drawn_at_ = options_.clock();
  // The last column stays free: some terminals wrap when it is written.
  put(detail::format("\r{}\x1b[K", live_line(terminal_width(options_.fd) - 1)));
  line_open_ = true;
}

std::string Progress::live_line(int width) const {
  const double total = static_cast<double>(std::max<std::int64_t>(1, options_.total_steps));
  const double fraction = std::clamp(static_cast<double>(state_.step) / total, 0.0, 1.0);
  // In the order of the line, with a rank: the highest rank is left out first.
  struct Part {
    int rank;
    std::string text;
  };
  std::array<Part, 9> parts = {{
      {0, detail::format("step {}/{}", state_.step, options_.total_steps)},
      {7, detail::format("{:3.0f}%", std::floor(100 * fraction))},
      {1, known(state_.loss) ? detail::format("loss {:.4f}", state_.loss) : ""},
      {2, known(validation_loss_) ? detail::format("val {:.4f}", validation_loss_) : ""},
      {8, known(state_.lr) ? detail::format("lr {:.1e}", state_.lr) : ""},
      {4, known(state_.tokens_per_second) ? count_text(state_.tokens_per_second) + " tok/s" : ""},
      {5, known(state_.tflops) ? utilisation_text(state_) : ""},
      {6, known(state_.peak_memory_bytes) ? memory_text(state_.peak_memory_bytes) : ""},
      {3, known(seconds_left()) ? duration_text(seconds_left()) + " left" : ""},
  }};
  constexpr int gap = 2;
  const auto columns = [&] {
    int sum = -gap;
    for (const Part& part : parts) {
      if (!part.text.empty()) sum += gap + static_cast<int>(part.text.size());
    }
    return sum;
  };
  const int bar_edges = 2 + gap;
  for (int rank = 8; rank > 0 && columns() > width; --rank) {
    for (Part& part : parts) {
      if (part.rank == rank) part.text.clear();
    }
  }
  if (columns() > width) return parts[0].text.substr(0, static_cast<std::size_t>(std::max(0, width)));
  const int room = std::min(width - columns() - bar_edges, kLongestBar);
  std::string line;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].text.empty()) continue;
    if (!line.empty()) line.append(gap, ' ');
    line += parts[i].text;
    if (i == 0 && room >= kShortestBar) line += detail::format("{:{}}{}", "", gap, bar_text(fraction, room, utf8_));
  }
  return line;
}

void Progress::put_plain_line() {
  if (plain_step_ == state_.step) return;
  plain_step_ = state_.step;
  std::string line = detail::format("step {}/{}", state_.step, options_.total_steps);
  if (known(state_.loss)) line += detail::format("  loss {:.4f}", state_.loss);
  if (known(state_.lr)) line += detail::format("  lr {:.2e}", state_.lr);
  if (known(state_.tokens_per_second)) line += detail::format("  {} tok/s", count_text(state_.tokens_per_second));
  if (known(state_.tflops)) line += "  " + utilisation_text(state_);
  if (known(state_.peak_memory_bytes)) line += "  peak memory " + memory_text(state_.peak_memory_bytes);
  line += detail::format("  {} elapsed", duration_text(seconds()));
  if (state_.step < options_.total_steps) line += detail::format("  {} left", duration_text(seconds_left()));
  put(line + "\n");
}

void Progress::put(std::string_view text) {
  if (!closed_ && !write_quietly(options_.fd, text)) closed_ = true;
}

}  // namespace trinix::tools
