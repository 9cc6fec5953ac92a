#pragma once

#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

/// @file
/// The words after `trinix`: a command, its options, their help. Values stay text; who uses them reads them strictly.

namespace trinix::cli {

/// @returns the exit code
using Run = std::function<int()>;

/// The command line is not one of ours: no such option, a value is missing, an argument too many.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A flag with or without a value, or an argument that stands alone.
struct Option {
  std::string name;  ///< "--lr"; of an argument that stands alone "path"
  std::string help;
  std::string type;   ///< what the value is, "NUMBER"; of a switch empty
  std::string usual;  ///< default, for the help
  std::string group = "Options";

  [[nodiscard]] bool is_flag() const { return name.starts_with('-'); }
  [[nodiscard]] bool takes_value() const { return !type.empty(); }
};

/// One subcommand. `--flag value`, `--flag=value` and `--switch` are understood; the last value given to a flag is the
/// one that counts, and after `--` nothing is a flag.
class Command {
 public:
  /// Reads and checks what was given and says what shall be done.
  using Prepare = std::function<Run(const Command&)>;

  Command(std::string name, std::string summary, Prepare prepare);

  void add(Option option);
  /// Text after the list of options.
  void set_footer(std::string text) { footer_ = std::move(text); }

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::string& summary() const { return summary_; }

  /// Takes in the words after the command's name. @returns false if help was asked for
  /// @throws UsageError
  [[nodiscard]] bool parse(std::span<char* const> words);
  [[nodiscard]] Run prepare() const { return prepare_(*this); }

  /// The value of an option that was given, else null. A switch has the value "true" unless `=` gave it another.
  [[nodiscard]] const std::string* given(std::string_view option) const;

  [[nodiscard]] std::string help() const;

 private:
  [[nodiscard]] const Option* find(std::string_view name) const;
  [[nodiscard]] const Option* next_argument() const;

  struct Given {
    std::string name;
    std::string value;
  };
  std::string name_;
  std::string summary_;
  Prepare prepare_;
  std::vector<Option> options_;
  std::vector<Given> given_;
  std::string footer_;
};

/// A line of help: the name, and what it means from a common column on.
[[nodiscard]] std::string help_line(const std::string& name, const std::string& help);

}  // namespace trinix::cli
