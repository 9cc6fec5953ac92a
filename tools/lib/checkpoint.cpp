#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/safetensors.h>
#include <trinix/tools/lib/atomic_dir.h>
#include <trinix/tools/lib/checkpoint.h>
#include <trinix/tools/lib/file_io.h>

namespace trinix::tools {

using detail::fail;
using Json = nlohmann::json;

namespace {

constexpr const char* kModelFile = "model.safetensors";
constexpr const char* kOptimizerFile = "optimizer.safetensors";
constexpr const char* kStateFile = "trainer.json";
constexpr std::string_view kStepPrefix = "step-";

std::filesystem::path checkpoints_of(const std::filesystem::path& run) { return run / "checkpoints"; }

/// FNV-1a over 64-bit words: finds damage by the disk or by a hand, not by an adversary.
std::string checksum(std::string_view bytes) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  const auto mix = [&](std::uint64_t word) { hash = (hash ^ word) * 0x100000001b3ULL; };
  std::size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    std::uint64_t word = 0;
    std::copy_n(bytes.data() + i, 8, reinterpret_cast<char*>(&word));
    mix(word);
    hash ^= hash >> 29;
  }
  for (; i < bytes.size(); ++i) mix(static_cast<unsigned char>(bytes[i]));
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

/// On the CPU, wherever the run trains: a checkpoint does not know about devices.
std::vector<std::pair<std::string, Tensor>> entries(const StateDict& dict) {
  std::vector<std::pair<std::string, Tensor>> list;
  for (const NamedTensor& entry : dict) list.emplace_back(entry.name, entry.tensor.to(Device::cpu()));
  return list;
}

std::uint64_t bytes_of(const StateDict& dict) {
  std::uint64_t sum = 0;
  for (const NamedTensor& entry : dict) {
    sum += static_cast<std::uint64_t>(entry.tensor.numel()) * size_of(entry.tensor.dtype());
  }
  return sum;
}

Json file_entry(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  return {{"bytes", bytes.size()}, {"checksum", checksum(bytes)}};
}

void verify_file(const std::filesystem::path& path, const Json& entry) {
  const std::string bytes = read_file(path);
  const auto expected = entry.at("bytes").get<std::uint64_t>();
  if (bytes.size() != expected) {
    fail<FormatError>("checkpoint", "'{}' has {} bytes instead of {}", path.string(), bytes.size(), expected);
  }
  if (checksum(bytes) != entry.at("checksum").get<std::string>()) {
    fail<FormatError>("checkpoint", "the contents of '{}' have changed since it was written", path.string());
  }
}

Json schedule_json(const optim::ScheduleState& schedule) {
  Json values = Json::object();
  for (const auto& [name, value] : schedule.values) values[name] = value;
  Json json = {{"kind", schedule.kind}, {"values", values}};
  for (const optim::ScheduleState& part : schedule.parts) json["parts"].push_back(schedule_json(part));
  return json;
}

optim::ScheduleState schedule_from_json(const Json& json) {
  optim::ScheduleState schedule{json.at("kind").get<std::string>()};
  for (const auto& [name, value] : json.at("values").items()) schedule.values.emplace_back(name, value.get<double>());
  if (!json.contains("parts")) return schedule;
  for (const Json& part : json.at("parts")) schedule.parts.push_back(schedule_from_json(part));
  return schedule;
}

Json state_json(const TrainerState& s) {
  Json j = {{"format", "trinix-trainer"},
            {"version", 1},
            {"step", s.step},
            {"data_position", s.data_position},
            {"generator", {{"seed", s.generator.seed}, {"offset", s.generator.offset}}},
            {"schedule", schedule_json(s.schedule)},
            {"elapsed_s", s.elapsed_s},
            {"vocab_size", s.vocab_size},
            {"config", Json::parse(to_json(s.config))}};
  // JSON has no infinity: a run that was not evaluated yet has no best loss.
  if (std::isfinite(s.best_validation_loss)) j["best_validation_loss"] = s.best_validation_loss;
  if (s.tokenizer != nullptr) j["tokenizer"] = Json::parse(s.tokenizer->to_json());
  return j;
}

TrainerState state_from_json(const Json& j, const std::string& source) {
  if (j.at("format").get<std::string>() != "trinix-trainer" || j.at("version").get<int>() != 1) {
    fail<FormatError>("checkpoint", "'{}' is not the state of a run that this version reads", source);
  }
  TrainerState s;
  s.config = config_from_json(j.at("config").dump(), source);
  s.step = j.at("step").get<std::int64_t>();
  s.data_position = j.at("data_position").get<std::uint64_t>();
  s.generator.seed = j.at("generator").at("seed").get<std::uint64_t>();
  s.generator.offset = j.at("generator").at("offset").get<std::uint64_t>();
  s.schedule = schedule_from_json(j.at("schedule"));
  s.elapsed_s = j.at("elapsed_s").get<double>();
  s.vocab_size = j.at("vocab_size").get<std::int64_t>();
  if (j.contains("best_validation_loss")) s.best_validation_loss = j.at("best_validation_loss").get<double>();
  if (j.contains("tokenizer")) s.tokenizer = tokenizer_from_json(j.at("tokenizer").dump(), source);
  return s;
}

StateDict read_tensors(const std::filesystem::path& path) {
  StateDict dict;
  for (auto& [name, tensor] : SafetensorsFile::open(path).read_all()) dict.insert(name, std::move(tensor));
  return dict;
}

}  // namespace

std::string checkpoint_name(std::int64_t step) {
  char text[32];
  std::snprintf(text, sizeof(text), "step-%08lld", static_cast<long long>(step));
  return text;
}

void save_checkpoint(const std::filesystem::path& run, const std::string& name, const TrainerState& state,
                     const StateDict& model, const StateDict& optimizer) {
  constexpr std::uint64_t kHeaders = 1 << 16;
  AtomicDir folder(checkpoints_of(run), name, {.expected_bytes = bytes_of(model) + bytes_of(optimizer) + kHeaders});
  save_safetensors(folder.path() / kModelFile, entries(model));
  save_safetensors(folder.path() / kOptimizerFile, entries(optimizer));
  Json j = state_json(state);
  for (const char* file : {kModelFile, kOptimizerFile}) j["files"][file] = file_entry(folder.path() / file);
  folder.write(kStateFile, j.dump(1) + "\n");
  folder.commit();
}

void link_checkpoint(const std::filesystem::path& run, const std::string& from, const std::string& name) {
  AtomicDir folder(checkpoints_of(run), name);
  for (const char* file : {kModelFile, kOptimizerFile, kStateFile}) {
    const std::filesystem::path source = checkpoints_of(run) / from / file;
    std::error_code error;
    std::filesystem::create_hard_link(source, folder.path() / file, error);
    if (error) copy_contents(source, folder.path() / file);  // a file system without links
  }
  folder.commit();
}

void prune_checkpoints(const std::filesystem::path& run, std::size_t keep) {
  prune_folders(checkpoints_of(run), kStepPrefix, keep);
}

std::vector<std::string> list_checkpoints(const std::filesystem::path& run) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(checkpoints_of(run), error)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory() && name.starts_with(kStepPrefix)) names.push_back(name);
  }
  std::sort(names.rbegin(), names.rend());
  return names;
}

Checkpoint load_checkpoint(const std::filesystem::path& folder, bool with_optimizer) {
  const std::filesystem::path state_path = folder / kStateFile;
  const std::string text = read_file(state_path);
  Checkpoint c;
  c.folder = folder;
  try {
    const Json j = Json::parse(text);
    c.state = state_from_json(j, state_path.string());
    verify_file(folder / kModelFile, j.at("files").at(kModelFile));
    if (with_optimizer) verify_file(folder / kOptimizerFile, j.at("files").at(kOptimizerFile));
  } catch (const Json::exception& e) {
    fail<FormatError>("checkpoint", "'{}' is damaged: {}", state_path.string(), e.what());
  }
  c.model = read_tensors(folder / kModelFile);
  if (with_optimizer) c.optimizer = read_tensors(folder / kOptimizerFile);
  return c;
}

Checkpoint load_newest_checkpoint(const std::filesystem::path& run, bool with_optimizer,
                                  const std::function<void(std::string_view)>& skipped) {
  const std::vector<std::string> names = list_checkpoints(run);
  if (names.empty()) fail<IoError>("checkpoint", "there is no checkpoint in '{}'", checkpoints_of(run).string());
  std::string last;
  for (const std::string& name : names) {
    try {
      return load_checkpoint(checkpoints_of(run) / name, with_optimizer);
    } catch (const Error& e) {
      last = e.what();
      if (skipped) skipped(detail::format("passing over checkpoint {}: {}", name, last));
    }
  }
  fail<FormatError>("checkpoint", "none of the {} checkpoints in '{}' can be used; the last one: {}", names.size(),
                    checkpoints_of(run).string(), last);
}

}  // namespace trinix::tools
