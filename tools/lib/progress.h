#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <unistd.h>

/// @file
/// How a training run shows that it lives.

namespace trinix::tools {

struct ProgressOptions {
  std::int64_t total_steps = 0;
  std::int64_t first_step = 0;  ///< step at which this process began: a resumed run's speed is its own
  int fd = STDOUT_FILENO;
  std::int64_t line_interval = 0;  ///< steps between lines where there is no terminal; 0: a fortieth of all
  double redraw_seconds = 0.1;     ///< the live line is drawn at most this often
  /// Seconds on a clock that only goes forward. Replaced by tests.
  std::function<double()> clock = {};
};

/// What is known after a step. NaN: not known.
struct ProgressState {
  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

  std::int64_t step = 0;  ///< steps done so far
  double loss = kUnknown;
  double lr = kUnknown;
  double tokens_per_second = kUnknown;
  // Of a card:
  double tflops = kUnknown;             ///< 10^12 floating-point operations of the model per second
  double peak_tflops = kUnknown;        ///< what the card's data sheet promises
  double peak_memory_bytes = kUnknown;  ///< most memory that tensors had so far
};

/// On a terminal one live line: step, bar, loss, validation loss, learning rate, tokens per second, use of the card,
/// time left. What does not fit the width is left out, the least important first. Elsewhere plain lines. When nobody
/// reads any more, it falls silent. The cursor is never hidden, so there is nothing to restore when the process is
/// killed.
class Progress {
 public:
  explicit Progress(ProgressOptions options);
  /// Ends the live line, so that what follows starts on a line of its own.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// After every step; costs next to nothing when it is not yet time to draw.
  void update(const ProgressState& state);

  /// After an evaluation at state.step. A NaN train_loss means that only the validation loss was computed.
  void evaluated(const ProgressState& state, double train_loss, double validation_loss);

  /// A line of its own above the live line.
  void note(std::string_view line);

  /// Draws the last state and ends the line. Called by the destructor too.
  void finish();

  /// The live line at a width in columns, without control characters.
  [[nodiscard]] std::string live_line(int width) const;

 private:
  void draw();
  void put(std::string_view text);
  void put_plain_line();
  [[nodiscard]] double seconds() const;
  [[nodiscard]] double seconds_left() const;

  ProgressOptions options_;
  ProgressState state_;
  double validation_loss_ = ProgressState::kUnknown;
  double started_;
  double drawn_at_ = -1e9;
  std::int64_t plain_step_ = -1;
  bool live_;
  bool utf8_;
  bool line_open_ = false;
  bool closed_ = false;  // the reader is gone
};

/// "0:42", "12:07", "3:05:10", "4d 02h".
[[nodiscard]] std::string duration_text(double seconds);

/// "812", "21.3k", "1.42M": at most five characters.
[[nodiscard]] std::string count_text(double count);

}  // namespace trinix::tools
