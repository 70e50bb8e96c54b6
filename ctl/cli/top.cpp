// SPDX-License-Identifier: Apache-2.0
// top.cpp -- the vPorts' rates as they are now, on a terminal that is left as it was found.
#include "top.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <sstream>
#include <thread>
#include <utility>

#include "command.h"

namespace ivds::cli {
namespace {

using Clock = std::chrono::steady_clock;

// Rows that a page key scrolls.
constexpr std::size_t kPage = 10;

// To a thousandth: what is below that is the clock's.
double rounded(double value) {
    return std::round(value * 1000) / 1000;
}

// A counter that went back was made anew; what it holds is what came since.
double rate(std::uint64_t was, std::uint64_t is, double seconds) {
    return rounded(static_cast<double>(is >= was ? is - was : is) / seconds);
}

bool wanted(const TopFilter& filter, const pb::PortState& port) {
    if (port.kind() != pb::VPORT) return false;
    if (!filter.instance.empty() && port.instance() != filter.instance) return false;
    if (filter.vport.find_first_of("*?[") == std::string::npos)
        return port.name().find(filter.vport) != std::string::npos;
    return ::fnmatch(filter.vport.c_str(), port.name().c_str(), 0) == 0;
}

using DropCounts = std::map<std::pair<std::string, std::string>, std::uint64_t>;  // by port and reason

DropCounts drop_counts(const pb::StatsReply& stats) {
    DropCounts counts;
    for (const pb::Drop& drop : stats.drops()) counts[{drop.port(), drop.reason()}] += drop.packets();
    return counts;
}

// Ordered by how much they are, then by name.
void put_drops(const std::map<std::string, double>& by_reason, pb::VportRates& row) {
    for (const auto& [reason, pps] : by_reason) {
        pb::DropRate& drop = *row.add_drops();
        drop.set_reason(reason);
        drop.set_pps(rounded(pps));
    }
    std::ranges::stable_sort(*row.mutable_drops(), std::greater{}, &pb::DropRate::pps);
}

double number_of(const pb::VportRates& row, std::size_t column) {
    switch (column) {
        case 2:
            return row.rx_pps();
        case 3:
            return row.rx_bps();
        case 4:
            return row.tx_pps();
        case 5:
            return row.tx_bps();
        case 6:
            return row.drop_pps();
        default:
            return row.flows();
    }
}

std::string drops_text(const pb::VportRates& row) {
    std::vector<std::string> words;
    for (const pb::DropRate& drop : row.drops())
        words.push_back(fmt::format("{} {}", drop.reason(), short_number(drop.pps())));
    return fmt::format("{}", fmt::join(words, ", "));
}

// All rows in one.
pb::VportRates total_of(const pb::Top& top) {
    pb::VportRates all;
    std::map<std::string, double> by_reason;
    for (const pb::VportRates& row : top.vports()) {
        all.set_rx_pps(all.rx_pps() + row.rx_pps());
        all.set_rx_bps(all.rx_bps() + row.rx_bps());
        all.set_tx_pps(all.tx_pps() + row.tx_pps());
        all.set_tx_bps(all.tx_bps() + row.tx_bps());
        all.set_drop_pps(all.drop_pps() + row.drop_pps());
        all.set_flows(all.flows() + row.flows());
        for (const pb::DropRate& drop : row.drops()) by_reason[drop.reason()] += drop.pps();
    }
    put_drops(by_reason, all);
    return all;
}

// The first `width` columns of a line; a character of several bytes stays whole.
std::string cut(std::string text, std::size_t width) {
    std::size_t columns = 0;
    for (std::size_t at = 0; at < text.size(); ++at) {
        if ((static_cast<unsigned char>(text[at]) & 0xc0U) == 0x80U) continue;
        if (columns++ == width) {
            text.resize(at);
            break;
        }
    }
    return text;
}

}  // namespace

std::string short_number(double value) {
    static constexpr std::array<const char*, 5> units = {"", "k", "M", "G", "T"};
    std::size_t unit = 0;
    // What would be rounded to 1000 is of the next unit.
    while (value >= 999.5 && unit + 1 < units.size()) {
        value /= 1000;
        ++unit;
    }
    if (unit == 0 && value > 0 && value < 9.95) return fmt::format("{:.1f}", value);
    if (unit == 0 || value >= 99.95) return fmt::format("{:.0f}{}", value, units[unit]);
    return fmt::format("{:.{}f}{}", value, value >= 9.995 ? 1 : 2, units[unit]);
}

pb::Top top_rates(const pb::StatsReply& before, const pb::StatsReply& after, double seconds,
                  const TopFilter& filter) {
    std::map<std::string, const pb::PortState*> first;
    for (const pb::PortState& port : before.ports()) first.emplace(port.name(), &port);
    const DropCounts old_drops = drop_counts(before);
    std::map<std::string, std::map<std::string, double>> drops;
    for (const auto& [key, packets] : drop_counts(after)) {
        const auto old = old_drops.find(key);
        const double pps = rate(old == old_drops.end() ? 0 : old->second, packets, seconds);
        if (pps > 0) drops[key.first][key.second] = pps;
    }
    pb::Top top;
    top.set_seconds(rounded(seconds));
    for (const pb::PortState& port : after.ports()) {
        const auto known = first.find(port.name());
        if (known == first.end() || !wanted(filter, port)) continue;
        const pb::Counters& was = known->second->counters();
        const pb::Counters& is = port.counters();
        pb::VportRates& row = *top.add_vports();
        row.set_vport(port.name());
        row.set_instance(port.instance());
        row.set_up(port.up());
        row.set_rx_pps(rate(was.rx_packets(), is.rx_packets(), seconds));
        row.set_rx_bps(rate(was.rx_bytes(), is.rx_bytes(), seconds / 8));
        row.set_tx_pps(rate(was.tx_packets(), is.tx_packets(), seconds));
        row.set_tx_bps(rate(was.tx_bytes(), is.tx_bytes(), seconds / 8));
        row.set_drop_pps(rate(was.drops(), is.drops(), seconds));
        row.set_flows(port.flows());
        put_drops(drops[port.name()], row);
    }
    return top;
}

void top_sort(pb::Top& top, const TopView& view) {
    const auto before = [&](const pb::VportRates& a, const pb::VportRates& b) {
        const pb::VportRates& one = view.reverse ? b : a;
        const pb::VportRates& other = view.reverse ? a : b;
        if (view.column == 0) return one.vport() < other.vport();
        if (view.column == 1 && one.instance() != other.instance()) return one.instance() < other.instance();
        if (view.column > 1 && number_of(one, view.column) != number_of(other, view.column))
            return number_of(one, view.column) > number_of(other, view.column);
        return a.vport() < b.vport();
    };
    std::ranges::sort(*top.mutable_vports(), before);
}

void top_press(TopView& view, std::string_view bytes, std::size_t rows) {
    const auto scroll_up = [&](std::size_t by) { view.first -= std::min(by, view.first); };
    const auto scroll_down = [&](std::size_t by) { view.first = std::min(view.first + by, rows > 0 ? rows - 1 : 0); };
    const auto next_column = [&](std::size_t by) { view.column = (view.column + by) % top_columns.size(); };
    while (!bytes.empty()) {
        const auto is = [&](std::string_view key) {
            const bool it = bytes.starts_with(key);
            if (it) bytes.remove_prefix(key.size());
            return it;
        };
        if (is("q") || is("Q"))
            view.ended = true;
        else if (is(">") || is("\033[C") || is("\033OC"))
            next_column(1);
        else if (is("<") || is("\033[D") || is("\033OD"))
            next_column(top_columns.size() - 1);
        else if (is("r"))
            view.reverse = !view.reverse;
        else if (is("\033[A") || is("\033OA"))
            scroll_up(1);
        else if (is("\033[B") || is("\033OB"))
            scroll_down(1);
        else if (is("\033[5~"))
            scroll_up(kPage);
        else if (is("\033[6~"))
            scroll_down(kPage);
        else
            bytes.remove_prefix(1);
    }
}

std::vector<TopLine> top_lines(const pb::Top& top, const TopView& view, std::size_t width, std::size_t height) {
    const pb::VportRates all = total_of(top);
    const auto up = std::ranges::count_if(top.vports(), &pb::VportRates::up);
    std::vector<TopLine> lines;
    lines.push_back({fmt::format("{} vPorts, {} up; rx {} packets/s, {}bit/s; tx {} packets/s, {}bit/s; {} flows",
                                 top.vports_size(), up, short_number(all.rx_pps()), short_number(all.rx_bps()),
                                 short_number(all.tx_pps()), short_number(all.tx_bps()), all.flows()),
                     Color::none});
    lines.push_back({fmt::format("drops {}/s{}{}", short_number(all.drop_pps()), all.drops().empty() ? "" : ": ",
                                 drops_text(all)),
                     all.drop_pps() > 0 ? Color::bad : Color::none});
    lines.emplace_back();

    // Above the rows are those three and the titles, below them the order and the keys.
    constexpr std::size_t kAbove = 4;
    const auto rows = static_cast<std::size_t>(top.vports_size());
    const std::size_t room = height == 0 ? rows : height > kAbove + 1 ? height - kAbove - 1 : 0;
    // As far as there are rows to fill the screen with.
    const std::size_t first = std::min(view.first, rows > room ? rows - room : 0);
    const std::size_t end = std::min(first + room, rows);
    Table table(
        {"VPORT", "INSTANCE", "STATE", ">RX_PPS", ">RX_BPS", ">TX_PPS", ">TX_BPS", ">DROP_PPS", ">FLOWS", "DROPS"});
    std::vector<Color> colors = {Color::dim};
    for (std::size_t i = first; i < end; ++i) {
        const pb::VportRates& row = top.vports(static_cast<int>(i));
        table.row({{row.vport()},
                   {row.instance()},
                   {row.up() ? "up" : "down"},
                   {short_number(row.rx_pps())},
                   {short_number(row.rx_bps())},
                   {short_number(row.tx_pps())},
                   {short_number(row.tx_bps())},
                   {short_number(row.drop_pps())},
                   Cell::number(row.flows()),
                   {drops_text(row)}});
        colors.push_back(row.drop_pps() > 0 ? Color::bad : row.up() ? Color::none : Color::dim);
    }
    std::stringstream text;
    table.print(text, false);
    std::size_t at = 0;
    for (std::string line; std::getline(text, line); ++at) lines.push_back({std::move(line), colors.at(at)});
    if (height != 0) {
        lines.push_back({fmt::format("by {}{}   < > other column   r reverse   up down scroll   q end",
                                     top_columns.at(view.column), view.reverse ? ", reversed" : ""),
                         Color::dim});
        if (lines.size() > height) lines.resize(height);
    }
    if (width != 0)
        for (TopLine& line : lines) line.text = cut(std::move(line.text), width);
    return lines;
}

namespace {

struct TopWords {
    double interval_s = 2;
    bool once = false;
    std::string sort{top_columns[TopView{}.column]};
    TopFilter filter;
};

// Signals come as bytes of a pipe, whichever thread they reach: 'q' to end, 'w' when the window has another size.
std::array<int, 2> signal_pipe = {-1, -1};

void on_signal(int number) {
    const int err = errno;
    const char byte = number == SIGWINCH ? 'w' : 'q';
    // A pipe that is full of such bytes needs no other.
    [[maybe_unused]] const ssize_t written = ::write(signal_pipe[1], &byte, 1);
    errno = err;
}

class Signals {
public:
    Signals() {
        if (::pipe2(signal_pipe.data(), O_CLOEXEC | O_NONBLOCK) != 0) signal_pipe = {-1, -1};
        struct sigaction action{};
        action.sa_handler = on_signal;
        action.sa_flags = SA_RESTART;
        for (std::size_t i = 0; i < numbers.size(); ++i) ::sigaction(numbers[i], &action, &before_[i]);
    }
    ~Signals() {
        for (std::size_t i = 0; i < numbers.size(); ++i) ::sigaction(numbers[i], &before_[i], nullptr);
        ::close(signal_pipe[0]);
        ::close(signal_pipe[1]);
    }
    Signals(const Signals&) = delete;
    Signals& operator=(const Signals&) = delete;

private:
    static constexpr std::array<int, 4> numbers = {SIGINT, SIGTERM, SIGHUP, SIGWINCH};
    std::array<struct sigaction, numbers.size()> before_{};
};

// The other screen of the terminal, without a cursor, and keys as they are pressed; the destructor takes it back.
class Screen {
public:
    explicit Screen(std::ostream& out) : out_(out) {
        if (::isatty(STDIN_FILENO) != 0 && ::tcgetattr(STDIN_FILENO, &before_) == 0) {
            keys_ = true;
            termios raw = before_;
            raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
            // A stopped process could not give the terminal back.
            raw.c_cc[VSUSP] = _POSIX_VDISABLE;
            ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
        }
        out_ << "\033[?1049h\033[?25l" << std::flush;
    }
    ~Screen() {
        out_ << "\033[?25h\033[?1049l" << std::flush;
        if (keys_) ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
    }
    Screen(const Screen&) = delete;
    Screen& operator=(const Screen&) = delete;

    void draw(const pb::Top& top, const TopView& view, bool color) {
        winsize size{};
        if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0) size = {24, 80, 0, 0};
        out_ << "\033[H";
        const auto lines = top_lines(top, view, size.ws_col, size.ws_row);
        for (std::size_t i = 0; i < lines.size(); ++i)
            out_ << (i > 0 ? "\n" : "") << paint(lines[i].text, color ? lines[i].color : Color::none) << "\033[K";
        out_ << "\033[J" << std::flush;
    }

    // Waits for keys and signals until `end`; false: only the time has passed.
    bool listen(Clock::time_point end, TopView& view, std::size_t rows) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
        if (left <= 0) return false;
        std::array<pollfd, 2> fds = {{{signal_pipe[0], POLLIN, 0}, {keys_ ? STDIN_FILENO : -1, POLLIN, 0}}};
        if (::poll(fds.data(), fds.size(), static_cast<int>(left)) == 0) return false;
        std::array<char, 64> bytes{};
        for (const pollfd& fd : fds) {
            if (fd.revents == 0) continue;
            const ssize_t count = ::read(fd.fd, bytes.data(), bytes.size());
            // A keyboard that is gone presses nothing any more.
            if (count > 0)
                top_press(view, {bytes.data(), static_cast<std::size_t>(count)}, rows);
            else if (fd.fd == STDIN_FILENO)
                keys_ = false;
        }
        return true;
    }

private:
    std::ostream& out_;
    termios before_{};
    bool keys_ = false;
};

Clock::duration duration_of(double seconds) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// Readings, and what they give two by two.
class Meter {
public:
    Meter(const Context& context, const TopWords& words) : context_(context), words_(words) {}

    Result<> begin() {
        auto stats = context_.source.stats();
        if (!stats) return std::unexpected(stats.error());
        const auto& instances = stats->instances();
        if (!words_.filter.instance.empty() &&
            std::ranges::find(instances, words_.filter.instance, &pb::InstanceState::name) == instances.end())
            return fail(Code::not_found, "IVDS-U005", "no instance is named " + words_.filter.instance,
                        "'ivds-ctl instance list' shows all");
        last_ = std::move(*stats);
        last_at_ = Clock::now();
        return {};
    }
    [[nodiscard]] Clock::time_point due() const { return last_at_ + duration_of(words_.interval_s); }
    Result<pb::Top> next() {
        auto stats = context_.source.stats();
        if (!stats) return std::unexpected(stats.error());
        const auto now = Clock::now();
        pb::Top top = top_rates(last_, *stats, std::chrono::duration<double>(now - last_at_).count(), words_.filter);
        last_ = std::move(*stats);
        last_at_ = now;
        return top;
    }

private:
    const Context& context_;
    const TopWords& words_;
    pb::StatsReply last_;
    Clock::time_point last_at_;
};

Result<int> show_live(const Context& context, Meter& meter, TopView view) {
    const Signals signals;
    std::optional<Screen> screen(std::in_place, context.io.out);
    pb::Top top;
    while (!view.ended && context.io.out) {
        top_sort(top, view);
        screen->draw(top, view, context.io.color);
        if (screen->listen(meter.due(), view, static_cast<std::size_t>(top.vports_size()))) continue;
        auto next = meter.next();
        if (!next) return std::unexpected(next.error());
        top = std::move(*next);
    }
    return exit_ok;
}

Result<int> show_rounds(const Context& context, Meter& meter, const TopView& view, bool once) {
    do {
        std::this_thread::sleep_until(meter.due());
        auto top = meter.next();
        if (!top) return std::unexpected(top.error());
        top_sort(*top, view);
        if (context.options.json) {
            context.json(*top);
        } else {
            for (const TopLine& line : top_lines(*top, view, 0, 0))
                context.io.out << paint(line.text, context.io.color ? line.color : Color::none) << '\n';
        }
    } while (!once && context.io.out);
    return exit_ok;
}

Result<int> show(const Context& context, const TopWords& words) {
    TopView view;
    view.column = static_cast<std::size_t>(std::ranges::find(top_columns, words.sort) - top_columns.begin());
    Meter meter(context, words);
    if (auto begun = meter.begin(); !begun) return std::unexpected(begun.error());
    if (context.io.terminal && !words.once && !context.options.json) return show_live(context, meter, view);
    return show_rounds(context, meter, view, words.once || !context.options.json);
}

}  // namespace

void add_top_command(Commands& commands) {
    auto words = std::make_shared<TopWords>();
    CLI::App& app = commands.leaf(
        commands.root(), "top", "The vPorts' rates as they are now, sorted",
        "ivds-ctl top --sort drop_pps\nivds-ctl top --vport 'web*' --interval 1\nivds-ctl top --once --instance red\n"
        "Keys: < and > choose the column to sort by, r reverses, arrows and pages scroll, q ends. Where standard\n"
        "output is no terminal, one table after one interval; with --json one object an interval.",
        [words](const Context& context) { return show(context, *words); });
    add_value(app, "--sort", fmt::format("{}", fmt::join(top_columns, "|")), words->sort, "the column to sort by")
        .check(CLI::IsMember(std::vector<std::string>(top_columns.begin(), top_columns.end())).description(""));
    add_value(app, "--vport", "VPORT", words->filter.vport, "those of this name, part of a name or pattern");
    add_value(app, "--instance", "INSTANCE", words->filter.instance, "those of this instance");
    add_value(app, "--interval", "SECS", words->interval_s, "how far apart the readings are (2)")
        .check(CLI::Range(0.1, 86400.0).description(""));
    app.add_flag("--once", words->once, "print after one interval, and end");
}

}  // namespace ivds::cli
