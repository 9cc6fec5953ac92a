#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/tools/lib/metrics.h>
#include <trinix/tools/lib/number.h>

namespace trinix::tools {

namespace {

std::string number(double value) { return std::isfinite(value) ? real_text(value) : "null"; }

/// {"wte.weight":{"norm":...,"max_abs":...,"zeros":...,"non_finite":...},...}
std::string gradients_text(const std::vector<optim::GradStatistics>& all) {
  std::string text;
  for (const optim::GradStatistics& s : all) {
    text += text.empty() ? "{" : ",";
    text += nlohmann::json(s.name).dump() + ":{\"norm\":" + number(s.norm) + ",\"max_abs\":" + number(s.max_abs) +
            ",\"zeros\":" + number(s.zeros) + ",\"non_finite\":" + number(s.non_finite) + "}";
  }
  return text + "}";
}

double value_of(const nlohmann::json& row, const char* key) {
  const auto found = row.find(key);
  return found != row.end() && found->is_number() ? found->get<double>() : MetricsRow::kNone;
}

/// Calls f(row, line with its end) for each whole line. @throws FormatError
template <class F>
void for_each_row(std::string_view text, const std::filesystem::path& path, F&& f) {
  for (int number = 1; !text.empty(); ++number) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return;
    const std::string_view line = text.substr(0, end + 1);
    text.remove_prefix(end + 1);
    const auto json = nlohmann::json::parse(line, nullptr, false);
    const auto step = json.is_object() ? json.find("step") : json.end();
    if (!json.is_object() || step == json.end() || !step->is_number_integer()) {
      detail::fail<FormatError>("metrics", "'{}', line {}: not a JSON object with a whole \"step\"", path.string(),
                                number);
    }
    MetricsRow row;
    row.step = step->get<std::int64_t>();
    row.loss = value_of(json, "loss");
    row.lr = value_of(json, "lr");
    row.grad_norm = value_of(json, "grad_norm");
    row.tokens_per_second = value_of(json, "tokens_per_second");
    row.elapsed_s = value_of(json, "elapsed_s");
    row.evaluated = json.contains("val_loss");
    row.train_loss = value_of(json, "train_loss");
    row.val_loss = value_of(json, "val_loss");
    row.loss_scale = value_of(json, "loss_scale");
    f(row, line);
  }
}

/// Rewrites the file without the rows from that step on, and without a line cut short.
void keep_rows_below(const std::filesystem::path& path, std::int64_t step, const FileCalls& calls) {
  if (!std::filesystem::exists(path)) return;
  const std::string text = read_file(path);
  std::string kept;
  for_each_row(text, path, [&](const MetricsRow& row, std::string_view line) {
    if (row.step < step) kept += line;
  });
  if (kept != text) replace_file(path, kept, true, calls);
}

OutputFile open_for(const std::filesystem::path& path, std::int64_t first_step, const FileCalls& calls) {
  if (first_step <= 1) return OutputFile(path, OutputFile::Mode::create, calls);
  keep_rows_below(path, first_step, calls);
  return OutputFile(path, OutputFile::Mode::append, calls);
}

}  // namespace

MetricsWriter::MetricsWriter(const std::filesystem::path& path, std::int64_t first_step, const FileCalls& calls)
    : file_(open_for(path, first_step, calls)) {}

void MetricsWriter::write(const MetricsRow& row) {
  const std::size_t before = file_.size();
  try {
    file_.write(to_json_line(row) + "\n");
  } catch (const IoError&) {
    if (file_.size() != before) file_.truncate(before);
    throw;
  }
}

std::string to_json_line(const MetricsRow& row) {
  std::string line = "{\"step\":" + std::to_string(row.step);
  const auto add = [&](const char* key, double value) {
    line += ",\"";
    line += key;
    line += "\":" + number(value);
  };
  add("loss", row.loss);
  add("lr", row.lr);
  add("grad_norm", row.grad_norm);
  add("tokens_per_second", row.tokens_per_second);
  add("elapsed_s", row.elapsed_s);
  if (row.evaluated) {
    if (!std::isnan(row.train_loss)) add("train_loss", row.train_loss);
    add("val_loss", row.val_loss);
  }
  if (!std::isnan(row.loss_scale)) add("loss_scale", row.loss_scale);
  if (!row.gradients.empty()) line += ",\"gradients\":" + gradients_text(row.gradients);
  return line + "}";
}

std::vector<MetricsRow> read_metrics(const std::filesystem::path& path) {
  std::vector<MetricsRow> rows;
  if (!std::filesystem::exists(path)) return rows;
  for_each_row(read_file(path), path, [&](const MetricsRow& row, std::string_view) { rows.push_back(row); });
  return rows;
}

}  // namespace trinix::tools
