#pragma once

#include <algorithm>
#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include <trinix/core/backend.h>
#include <trinix/core/capture.h>

/// @file
/// Tables on the card that tell a kernel over many tensors where they lie. They are made on the host and uploaded once
/// for as long as the list of tensors stays the same.

namespace trinix::cuda {

/// Bytes in the card's memory.
class DeviceTable {
 public:
  /// Uploads; waits for nothing but the copy out of `bytes`.
  DeviceTable(std::span<const std::byte> bytes, const Stream& stream) : size_(bytes.size()), device_(stream.device) {
    Backend& backend = backend_of(device_);
    data_ = backend.allocate_apart(size_, device_.index);
    backend.copy(data_, device_, bytes.data(), Device::cpu(), size_, stream);
  }
  ~DeviceTable() { backend_of(device_).release(data_, size_, device_.index); }
  DeviceTable(const DeviceTable&) = delete;
  DeviceTable& operator=(const DeviceTable&) = delete;
  [[nodiscard]] void* data() const { return data_; }

 private:
  void* data_ = nullptr;
  std::size_t size_;
  Device device_;
};

/// A table on its way to the card.
struct TableContents {
  std::vector<std::byte> bytes;
  std::int64_t rows = 0;
  std::int64_t groups = 0;  ///< of rows, where blocks take several
};

/// What a kernel needs of its table.
struct TableView {
  void* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t groups = 0;
};

/// The tables last used by one op, by the list of items that they were made from. Thread-safe.
template <class Item>
class TableCache {
 public:
  /// The table of `items`, made by make(items) -> TableContents when it is not known. Lists with the same number
  /// `list`, other than 0, are equal without a look. While a step is captured, the table lives as long as the
  /// recording.
  template <class Make>
  TableView find(std::span<const Item> items, const Stream& stream, Make&& make, std::uint64_t list = 0) {
    const std::lock_guard lock(mutex_);
    Capture* const capture = Capture::current();
    for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
      const bool same_list = list != 0 && entry->list == list;
      if (entry->device != stream.device || !(same_list || std::ranges::equal(entry->items, items))) continue;
      entry->list = list;
      entries_.splice(entries_.begin(), entries_, entry);
      if (capture != nullptr) capture->keep(entry->table);
      return {entry->table->data(), entry->rows, entry->groups};
    }
    const TableContents contents = make(items);
    if (capture != nullptr) {
      return {capture->upload(contents.bytes.data(), contents.bytes.size()), contents.rows, contents.groups};
    }
    if (contents.rows == 0) return {};
    entries_.push_front({stream.device,
                         list,
                         {items.begin(), items.end()},
                         std::make_shared<DeviceTable>(contents.bytes, stream),
                         contents.rows,
                         contents.groups});
    if (entries_.size() > kKept) entries_.pop_back();
    return {entries_.front().table->data(), contents.rows, contents.groups};
  }

 private:
  static constexpr std::size_t kKept = 8;  // a few optimizers, each with its norm
  struct Entry {
    Device device;
    std::uint64_t list;
    std::vector<Item> items;
    std::shared_ptr<DeviceTable> table;
    std::int64_t rows;
    std::int64_t groups;
  };

  std::mutex mutex_;
  std::list<Entry> entries_;
};

/// Rows as bytes, with `extra` zeroed bytes behind them.
template <class Row>
std::vector<std::byte> table_bytes(const std::vector<Row>& rows, std::size_t extra = 0) {
  std::vector<std::byte> bytes(rows.size() * sizeof(Row) + extra);
  std::copy_n(reinterpret_cast<const std::byte*>(rows.data()), rows.size() * sizeof(Row), bytes.begin());
  return bytes;
}

}  // namespace trinix::cuda
