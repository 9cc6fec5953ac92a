// The house rules that can be read off the source tree: which folder may include which, what public headers keep from
// their users, and how long a file may be. docs/architecture.md says why.
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace trinix {
namespace {

namespace fs = std::filesystem;

const fs::path& root() {
  static const fs::path path = fs::canonical(fs::path(TRINIX_TEST_DATA) / ".." / "..");
  return path;
}

/// For each folder, the folders whose headers it may include.
const std::map<std::string, std::set<std::string>>& allowed_includes() {
  static const std::map<std::string, std::set<std::string>> table = {
      {"core", {"core"}},
      {"backends", {"core", "backends"}},
      {"autograd", {"core", "autograd"}},
      {"layers", {"core", "autograd", "layers"}},
      {"optim", {"core", "autograd", "optim"}},
      {"tools", {"core", "backends", "autograd", "layers", "optim", "tools"}},
  };
  return table;
}

struct Include {
  std::size_t line;
  std::string name;
  bool quoted;
};

/// The file that an #include line names, if it is one.
std::optional<Include> parse_include(std::string_view text, std::size_t line) {
  const auto skip = [&] { text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size())); };
  skip();
  if (!text.starts_with('#')) return {};
  text.remove_prefix(1);
  skip();
  if (!text.starts_with("include")) return {};
  text.remove_prefix(7);
  skip();
  if (text.empty() || (text[0] != '<' && text[0] != '"')) return {};
  const bool quoted = text[0] == '"';
  const auto end = text.find(quoted ? '"' : '>', 1);
  if (end == std::string_view::npos) return {};
  return Include{line, std::string(text.substr(1, end - 1)), quoted};
}

struct Source {
  std::string path;    // from the root, with slashes
  std::string folder;  // the first part of it
  std::vector<std::string> lines;
  std::vector<Include> includes;

  [[nodiscard]] bool has_extension(std::initializer_list<const char*> wanted) const {
    const std::string extension = fs::path(path).extension().string();
    return std::find(wanted.begin(), wanted.end(), extension) != wanted.end();
  }
};

const std::vector<Source>& sources() {
  static const std::vector<Source> all = [] {
    std::vector<Source> found;
    for (const char* folder : {"core", "backends", "autograd", "layers", "optim", "tools", "tests", "bench"}) {
      if (!fs::exists(root() / folder)) continue;
      for (const auto& entry : fs::recursive_directory_iterator(root() / folder)) {
        Source s{fs::relative(entry.path(), root()).generic_string(), folder, {}, {}};
        if (!entry.is_regular_file() || !s.has_extension({".h", ".cpp", ".cu", ".cuh"})) continue;
        std::ifstream in(entry.path());
        for (std::string line; std::getline(in, line);) s.lines.push_back(line);
        for (std::size_t i = 0; i < s.lines.size(); ++i) {
          if (auto include = parse_include(s.lines[i], i + 1)) s.includes.push_back(std::move(*include));
        }
        found.push_back(std::move(s));
      }
    }
    return found;
  }();
  return all;
}

/// What speaks against this include in a file of this folder; empty when nothing does.
std::string complaint(const std::string& folder, const Include& include) {
  const auto rule = allowed_includes().find(folder);
  if (rule == allowed_includes().end()) return "";  // tests and benchmarks may include everything
  if (include.name.find("..") != std::string::npos) return "leaves its folder";
  if (folder == "backends" && include.name == "trinix/core/tensor.h") return "kernels see views, not tensors";
  if (!include.name.starts_with("trinix/")) return "";
  const std::string rest = include.name.substr(7);
  if (rest.find('/') == std::string::npos) {  // trinix/version.h, and trinix/trinix.h, which brings everything
    return rest == "trinix.h" && folder != "tools" ? "includes the whole public face" : "";
  }
  const std::string target = rest.substr(0, rest.find('/'));
  return rule->second.contains(target) ? "" : "a file of " + folder + " may not include " + target;
}

TEST(Layering, TheTreeIsThere) {
  ASSERT_TRUE(fs::exists(root() / "core" / "tensor.h")) << root();
  EXPECT_GT(sources().size(), 80U);
}

TEST(Layering, TheRulesCatchWhatTheyShould) {
  const auto verdict = [](const std::string& folder, const char* line) {
    const auto include = parse_include(line, 1);
    return include ? complaint(folder, *include) : "no include";
  };
  EXPECT_EQ(verdict("core", "#include <trinix/autograd/record.h>"), "a file of core may not include autograd");
  EXPECT_EQ(verdict("core", "  #  include <trinix/backends/cpu/loops.h>"), "a file of core may not include backends");
  EXPECT_EQ(verdict("backends", "#include <trinix/core/tensor.h>"), "kernels see views, not tensors");
  EXPECT_EQ(verdict("autograd", "#include <trinix/layers/linear.h>"), "a file of autograd may not include layers");
  EXPECT_EQ(verdict("optim", "#include <trinix/layers/module.h>"), "a file of optim may not include layers");
  EXPECT_EQ(verdict("layers", "#include <trinix/backends/cpu/loops.h>"), "a file of layers may not include backends");
  EXPECT_EQ(verdict("core", "#include \"../autograd/node.h\""), "leaves its folder");
  EXPECT_EQ(verdict("core", "#include <trinix/trinix.h>"), "includes the whole public face");
  EXPECT_EQ(verdict("layers", "#include <trinix/autograd/ops.h>"), "");
  EXPECT_EQ(verdict("tools", "#include <trinix/optim/adamw.h>"), "");
  EXPECT_EQ(verdict("core", "#include <vector>"), "");
  EXPECT_EQ(verdict("core", "// #include <trinix/autograd/ops.h>"), "no include");
}

TEST(Layering, FoldersIncludeOnlyWhatStandsBelowThem) {
  for (const Source& s : sources()) {
    for (const Include& include : s.includes) {
      EXPECT_EQ(complaint(s.folder, include), "") << s.path << ":" << include.line << ": " << include.name;
    }
  }
}

TEST(Layering, PublicHeadersKeepPrivateLibrariesToThemselves) {
  const std::vector<std::string> forbidden = {"Eigen/", "fmt/", "nlohmann/", "CLI/",   "cuda",
                                              "cublas", "nccl", "omp.h",     "gtest/", "benchmark/"};
  for (const Source& s : sources()) {
    // The program's own headers, in tools/cli, are nobody else's.
    if (s.folder == "tests" || s.folder == "bench" || s.folder == "backends" || !s.has_extension({".h"})) continue;
    if (s.path.starts_with("tools/cli/")) continue;
    for (const Include& include : s.includes) {
      for (const std::string& name : forbidden) {
        EXPECT_FALSE(include.name.starts_with(name)) << s.path << ":" << include.line << ": " << include.name;
      }
    }
  }
}

TEST(Layering, HeadersOfOursAreIncludedByTheirFullName) {
  for (const Source& s : sources()) {
    if (s.folder == "tests" || s.folder == "bench" || s.path.starts_with("tools/cli/")) continue;
    for (const Include& include : s.includes) {
      EXPECT_FALSE(include.quoted) << s.path << ":" << include.line << ": write <trinix/...> instead of \""
                                   << include.name << '"';
    }
  }
}

TEST(Layering, EveryHeaderIsIncludedOnce) {
  for (const Source& s : sources()) {
    if (!s.has_extension({".h", ".cuh"})) continue;
    const bool guarded = std::find(s.lines.begin(), s.lines.end(), "#pragma once") != s.lines.end();
    EXPECT_TRUE(guarded) << s.path << " has no #pragma once";
  }
}

TEST(Layering, FilesStayShort) {
  for (const Source& s : sources()) {
    const std::size_t limit = s.has_extension({".cu", ".cuh"}) ? 450 : 600;
    EXPECT_LT(s.lines.size(), limit) << s.path;
  }
}

}  // namespace
}  // namespace trinix
