#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <trinix/tools/lib/file_io.h>

/// @file
/// Folders that exist whole or not at all: a checkpoint is written beside its final place and moved there when every
/// byte has reached the medium. A crash or a kill at any point leaves the earlier folder as it was. POSIX.

namespace trinix::tools {

struct AtomicDirOptions {
  /// Bytes that will be written; refused at once when the file system has less. 0: not known.
  std::uint64_t expected_bytes = 0;
  /// Replaced by tests.
  FileCalls calls = {};
};

/// A folder under construction, `PARENT/.tmp-NAME-PID` until commit() moves it to `PARENT/NAME`.
///
///     AtomicDir folder("run/checkpoints", "step-000250", {.expected_bytes = 43'000'000});
///     save_safetensors(folder.path() / "model.safetensors", ...);
///     folder.write("trainer.json", text);
///     folder.commit();
class AtomicDir {
 public:
  /// Makes the parent where it is missing. @throws IoError: no room, no permission, ...
  AtomicDir(std::filesystem::path parent, std::string name, AtomicDirOptions options = {});
  /// Removes everything written, unless committed.
  ~AtomicDir();
  AtomicDir(const AtomicDir&) = delete;
  AtomicDir& operator=(const AtomicDir&) = delete;

  /// Where to write until commit(). Files put here by other code are synced by commit().
  [[nodiscard]] const std::filesystem::path& path() const { return temporary_; }

  /// Writes, syncs and closes one file. @throws IoError
  void write(const std::string& file, std::string_view bytes);

  /// Syncs every file, then the folder, moves it to its name and syncs the parent. A folder of that name is replaced
  /// and deleted. @returns the final path. @throws IoError, and then the earlier folder is untouched
  std::filesystem::path commit();

 private:
  void move_into_place(const std::filesystem::path& final_path);

  std::filesystem::path parent_;
  std::string name_;
  AtomicDirOptions options_;
  std::filesystem::path temporary_;
  bool committed_ = false;
};

/// Throws unless the file system holding `folder` (which must exist) has that many bytes for an ordinary user.
/// @throws IoError naming both figures
void require_free_space(const std::filesystem::path& folder, std::uint64_t bytes);

/// Deletes a folder such that a crash never leaves half of it under its name: it is moved aside first. A folder that is
/// not there is no error. @throws IoError
void remove_folder(const std::filesystem::path& path);

/// Keeps the `keep` last, in order of name, of the folders in `parent` whose name starts with `prefix`, and those named
/// in `always`; removes the others. Call it only after the newest is committed. @returns the names removed
std::vector<std::string> prune_folders(const std::filesystem::path& parent, std::string_view prefix, std::size_t keep,
                                       const std::vector<std::string>& always = {});

/// Removes the `.tmp-NAME-PID` entries that dead processes left in `parent`. An entry with this process's own id counts
/// as dead too (a container hands out the same ids again), so call it before the first AtomicDir, holding the RunLock.
/// @returns the names removed
std::vector<std::string> remove_leftovers(const std::filesystem::path& parent);

}  // namespace trinix::tools
