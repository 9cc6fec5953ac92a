#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <trinix/optim/grad_statistics.h>
#include <trinix/tools/lib/file_io.h>

/// @file
/// metrics.jsonl: what a run measured, one JSON object a line.

namespace trinix::tools {

/// One line. NaN in an optional place: not measured, and the key is left out.
struct MetricsRow {
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

  std::int64_t step = 0;  ///< steps done, this one included: the first row is step 1
  double loss = 0;        ///< of this step's batch
  double lr = 0;
  double grad_norm = 0;  ///< before clipping
  double tokens_per_second = 0;
  double elapsed_s = 0;  ///< since the run began, earlier processes included
  bool evaluated = false;
  double train_loss = kNone;  ///< where evaluated; left out if NaN
  double val_loss = kNone;    ///< where evaluated
  double loss_scale = kNone;  ///< where losses are scaled
  /// Of single parameters, where asked for; written, but not read back.
  std::vector<optim::GradStatistics> gradients = {};
};

/// Appends rows to a file. Each row is in the kernel's hands when write() returns, so a crash of the process loses
/// none.
class MetricsWriter {
 public:
  /// Starts anew, or, where the first step to be written is above 1, goes on behind the rows below that step. Rows from
  /// it on come from an earlier process that got beyond its last checkpoint; they will be written again.
  /// @throws IoError, FormatError
  explicit MetricsWriter(const std::filesystem::path& path, std::int64_t first_step = 1, const FileCalls& calls = {});

  /// @throws IoError, and then the file ends with the row before
  void write(const MetricsRow& row);

 private:
  OutputFile file_;
};

/// The line, without its end. Numbers that are not finite become null.
[[nodiscard]] std::string to_json_line(const MetricsRow& row);

/// The rows of a file; null reads as NaN. A last line cut short by a crash is left out. Empty where there is no file.
/// @throws IoError; FormatError naming the line
[[nodiscard]] std::vector<MetricsRow> read_metrics(const std::filesystem::path& path);

}  // namespace trinix::tools
