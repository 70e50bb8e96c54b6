// SPDX-License-Identifier: Apache-2.0
// netdev.cpp -- interfaces over netlink and ethtool.
#include "netdev.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/ethtool.h>
#include <linux/genetlink.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <linux/veth.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <set>
#include <span>
#include <thread>

#include "fd.h"

namespace ivds {
namespace {

// The "netdev" generic netlink family; the constants are uapi but younger than Debian 12's headers.
constexpr unsigned kLowerUp = 1u << 16;  // IFF_LOWER_UP, which net/if.h does not have
constexpr auto kNetdevFamily = "netdev";
constexpr int kNetdevDevGet = 1;
constexpr int kNetdevDevAdded = 2;
constexpr int kNetdevDevChanged = 4;
constexpr int kNetdevAttrIfindex = 1;
constexpr int kNetdevAttrXdpFeatures = 3;
constexpr int kNetdevAttrMax = 8;

struct SockFree {
    void operator()(nl_sock* socket) const { nl_socket_free(socket); }
};
using Socket = std::unique_ptr<nl_sock, SockFree>;
struct MsgFree {
    void operator()(nl_msg* msg) const { nlmsg_free(msg); }
};
using Message = std::unique_ptr<nl_msg, MsgFree>;

std::unexpected<Error> nl_failed(int err, const std::string& what) {
    // libnl has its own numbers; only those that stand for an errno say more than its text.
    switch (-err) {
        case NLE_NODEV:
        case NLE_OBJ_NOTFOUND:
            return os_error(ENODEV, "IVDS-N001", what);
        case NLE_PERM:
        case NLE_NOACCESS:
            return os_error(EPERM, "IVDS-N001", what, "run as root (CAP_NET_ADMIN)");
        case NLE_BUSY:
            return os_error(EBUSY, "IVDS-N001", what);
        default:
            return fail(Code::system, "IVDS-N001", fmt::format("{}: {}", what, nl_geterror(err)));
    }
}

using Sink = std::function<void(nlmsghdr*)>;

int on_message(nl_msg* msg, void* arg) {
    (*static_cast<Sink*>(arg))(nlmsg_hdr(msg));
    return NL_OK;
}
// Notifications carry no sequence number of ours.
int on_any_sequence(nl_msg*, void*) {
    return NL_OK;
}
int on_error(sockaddr_nl*, nlmsgerr* error, void* arg) {
    *static_cast<int*>(arg) = error->error;
    return NL_STOP;
}
int on_end(nl_msg*, void* arg) {
    *static_cast<int*>(arg) = 0;
    return NL_STOP;
}

// Sends `msg` and hands each answer to `sink` until the kernel says done. Returns 0 or a negative errno.
int converse(nl_sock* socket, nl_msg* msg, Sink sink) {
    nlmsg_hdr(msg)->nlmsg_flags |= NLM_F_ACK;
    if (const int err = nl_send_auto(socket, msg); err < 0) {
        return -EIO;
    }
    const std::unique_ptr<nl_cb, void (*)(nl_cb*)> callbacks(nl_cb_alloc(NL_CB_CUSTOM), nl_cb_put);
    int state = 1;
    nl_cb_set(callbacks.get(), NL_CB_VALID, NL_CB_CUSTOM, on_message, &sink);
    nl_cb_err(callbacks.get(), NL_CB_CUSTOM, on_error, &state);
    nl_cb_set(callbacks.get(), NL_CB_FINISH, NL_CB_CUSTOM, on_end, &state);
    nl_cb_set(callbacks.get(), NL_CB_ACK, NL_CB_CUSTOM, on_end, &state);
    while (state > 0) {
        if (const int err = nl_recvmsgs(socket, callbacks.get()); err < 0 && state > 0) {
            return err == -NLE_NOMEM ? -ENOBUFS : -EIO;
        }
    }
    return state;
}

Result<Socket> connect(int protocol) {
    Socket socket(nl_socket_alloc());
    if (!socket) {
        return os_error(ENOMEM, "IVDS-N001", "allocate a netlink socket");
    }
    if (const int err = nl_connect(socket.get(), protocol); err < 0) {
        return nl_failed(err, "open a netlink socket");
    }
    nl_socket_disable_seq_check(socket.get());
    // Large answers (an interface with 63 VFs) must fit.
    nl_socket_set_msg_buf_size(socket.get(), 64 * 1024);
    return socket;
}

// Frames on their way out pass it: it is neither ingress nor clsact.
bool leads_out(const tcmsg& qdisc) {
    return qdisc.tcm_parent != TC_H_INGRESS;
}

std::optional<Netdev> parse_link(nlmsghdr* header) {
    std::array<nlattr*, IFLA_MAX + 1> attrs{};
    if (nlmsg_parse(header, sizeof(ifinfomsg), attrs.data(), IFLA_MAX, nullptr) < 0) {
        return std::nullopt;
    }
    const auto* info = static_cast<const ifinfomsg*>(nlmsg_data(header));
    Netdev netdev;
    netdev.ifindex = static_cast<std::uint32_t>(info->ifi_index);
    netdev.admin_up = (info->ifi_flags & IFF_UP) != 0;
    netdev.promiscuous = (info->ifi_flags & IFF_PROMISC) != 0;
    // LOWER_UP, as RUNNING follows the carrier only some time later.
    netdev.carrier = (info->ifi_flags & kLowerUp) != 0;
    if (attrs[IFLA_IFNAME] != nullptr) {
        netdev.name = nla_get_string(attrs[IFLA_IFNAME]);
    }
    if (attrs[IFLA_IFALIAS] != nullptr) {
        netdev.alias = nla_get_string(attrs[IFLA_IFALIAS]);
    }
    if (attrs[IFLA_MTU] != nullptr) {
        netdev.mtu = nla_get_u32(attrs[IFLA_MTU]);
    }
    if (attrs[IFLA_ADDRESS] != nullptr && nla_len(attrs[IFLA_ADDRESS]) == 6) {
        const auto* mac = static_cast<const std::uint8_t*>(nla_data(attrs[IFLA_ADDRESS]));
        netdev.mac =
            fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
    }
    if (attrs[IFLA_NUM_RX_QUEUES] != nullptr) {
        netdev.rx_queues = nla_get_u32(attrs[IFLA_NUM_RX_QUEUES]);
    }
    if (attrs[IFLA_NUM_TX_QUEUES] != nullptr) {
        netdev.tx_queues = nla_get_u32(attrs[IFLA_NUM_TX_QUEUES]);
    }
    if (attrs[IFLA_STATS64] != nullptr) {
        rtnl_link_stats64 stats{};
        std::memcpy(&stats, nla_data(attrs[IFLA_STATS64]),
                    std::min<std::size_t>(sizeof(stats), static_cast<std::size_t>(nla_len(attrs[IFLA_STATS64]))));
        netdev.counters = {.rx_packets = stats.rx_packets,
                           .tx_packets = stats.tx_packets,
                           .rx_bytes = stats.rx_bytes,
                           .tx_bytes = stats.tx_bytes,
                           .rx_errors = stats.rx_errors,
                           .tx_errors = stats.tx_errors,
                           .rx_dropped = stats.rx_dropped,
                           .tx_dropped = stats.tx_dropped,
                           .rx_missed = stats.rx_missed_errors,
                           .rx_crc = stats.rx_crc_errors};
    }
    if (attrs[IFLA_QDISC] != nullptr) {
        const std::string_view qdisc = nla_get_string(attrs[IFLA_QDISC]);
        netdev.has_fq = qdisc == "fq";
        netdev.has_mq = qdisc == "mq";
    }
    if (attrs[IFLA_NUM_VF] != nullptr) {
        netdev.num_vf = nla_get_u32(attrs[IFLA_NUM_VF]);
    }
    if (attrs[IFLA_LINK] != nullptr) {
        netdev.peer_ifindex = nla_get_u32(attrs[IFLA_LINK]);
    }
    if (attrs[IFLA_LINK_NETNSID] != nullptr) {
        netdev.peer_nsid = nla_get_s32(attrs[IFLA_LINK_NETNSID]);
    }
    if (attrs[IFLA_LINKINFO] != nullptr) {
        std::array<nlattr*, IFLA_INFO_MAX + 1> nested{};
        if (nla_parse_nested(nested.data(), IFLA_INFO_MAX, attrs[IFLA_LINKINFO], nullptr) == 0 &&
            nested[IFLA_INFO_KIND] != nullptr) {
            netdev.kind = nla_get_string(nested[IFLA_INFO_KIND]);
        }
    }
    if (attrs[IFLA_XDP] != nullptr) {
        std::array<nlattr*, IFLA_XDP_MAX + 1> nested{};
        if (nla_parse_nested(nested.data(), IFLA_XDP_MAX, attrs[IFLA_XDP], nullptr) == 0) {
            netdev.xdp_generic =
                nested[IFLA_XDP_ATTACHED] != nullptr && nla_get_u8(nested[IFLA_XDP_ATTACHED]) == XDP_ATTACHED_SKB;
            for (const int which :
                 {IFLA_XDP_DRV_PROG_ID, IFLA_XDP_SKB_PROG_ID, IFLA_XDP_HW_PROG_ID, IFLA_XDP_PROG_ID}) {
                if (nested[static_cast<std::size_t>(which)] != nullptr && netdev.xdp_program == 0) {
                    netdev.xdp_program = nla_get_u32(nested[static_cast<std::size_t>(which)]);
                }
            }
        }
    }
    return netdev;
}

// Of the interfaces with mq, finds out whether all qdiscs below it are fq. The kernel lists only those of all
// interfaces together, so one list serves as many as there are.
int learn_queues(nl_sock* socket, std::span<Netdev> netdevs) {
    struct Below {
        std::uint32_t all = 0;
        std::uint32_t fq = 0;
    };
    std::map<std::uint32_t, Below> below;
    for (const auto& netdev : netdevs) {
        if (netdev.has_mq) {
            below[netdev.ifindex] = {};
        }
    }
    if (below.empty()) {
        return 0;
    }
    const Message msg(nlmsg_alloc_simple(RTM_GETQDISC, NLM_F_REQUEST | NLM_F_DUMP));
    const tcmsg any{};
    nlmsg_append(msg.get(), const_cast<tcmsg*>(&any), sizeof(any), NLMSG_ALIGNTO);
    const int err = converse(socket, msg.get(), [&](nlmsghdr* header) {
        std::array<nlattr*, TCA_MAX + 1> attrs{};
        if (nlmsg_parse(header, sizeof(tcmsg), attrs.data(), TCA_MAX, nullptr) < 0 || attrs[TCA_KIND] == nullptr) {
            return;
        }
        const auto* qdisc = static_cast<const tcmsg*>(nlmsg_data(header));
        const auto found = below.find(static_cast<std::uint32_t>(qdisc->tcm_ifindex));
        if (found != below.end() && leads_out(*qdisc) && qdisc->tcm_parent != TC_H_ROOT) {
            ++found->second.all;
            found->second.fq += std::string_view(nla_get_string(attrs[TCA_KIND])) == "fq" ? 1 : 0;
        }
    });
    for (auto& netdev : netdevs) {
        if (const auto found = below.find(netdev.ifindex); found != below.end()) {
            netdev.has_fq = err == 0 && found->second.all != 0 && found->second.fq == found->second.all;
        }
    }
    return err;
}

// {ifindex, features} of a message of the netdev family.
std::optional<std::pair<std::uint32_t, std::uint64_t>> parse_features(nlmsghdr* header) {
    std::array<nlattr*, kNetdevAttrMax + 1> attrs{};
    if (genlmsg_parse(header, 0, attrs.data(), kNetdevAttrMax, nullptr) < 0 || attrs[kNetdevAttrIfindex] == nullptr ||
        attrs[kNetdevAttrXdpFeatures] == nullptr) {
        return std::nullopt;
    }
    return std::pair(nla_get_u32(attrs[kNetdevAttrIfindex]), nla_get_u64(attrs[kNetdevAttrXdpFeatures]));
}

Message link_request(int type, int flags, std::uint32_t ifindex, const std::string& name) {
    Message msg(nlmsg_alloc_simple(type, NLM_F_REQUEST | flags));
    ifinfomsg info{};
    info.ifi_family = AF_UNSPEC;
    info.ifi_index = static_cast<int>(ifindex);
    nlmsg_append(msg.get(), &info, sizeof(info), NLMSG_ALIGNTO);
    if (!name.empty()) {
        nla_put_string(msg.get(), IFLA_IFNAME, name.c_str());
    }
    return msg;
}

// ethtool's ioctl interface, in whichever namespace the socket was made.
class Ethtool {
public:
    Ethtool() : socket_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {}

    int call(const std::string& name, void* command) const {
        ifreq request{};
        std::strncpy(static_cast<char*>(request.ifr_name), name.c_str(), IFNAMSIZ - 1);
        request.ifr_data = static_cast<char*>(command);
        return ::ioctl(socket_.get(), SIOCETHTOOL, &request) == 0 ? 0 : -errno;
    }
    // What the link runs at; the driver may not say, or there is no link.
    [[nodiscard]] std::optional<std::uint32_t> speed_mbps(const std::string& name) const {
        // The kernel first answers how many words of link modes it wants room for, as a negative number.
        std::array<std::uint32_t, sizeof(ethtool_link_settings) / 4 + 3 * 128> buffer{};
        auto* settings = reinterpret_cast<ethtool_link_settings*>(buffer.data());
        settings->cmd = ETHTOOL_GLINKSETTINGS;
        if (call(name, settings) != 0 || settings->link_mode_masks_nwords >= 0) {
            return std::nullopt;
        }
        settings->link_mode_masks_nwords = static_cast<std::int8_t>(-settings->link_mode_masks_nwords);
        settings->cmd = ETHTOOL_GLINKSETTINGS;
        if (call(name, settings) != 0 || settings->speed == 0 ||
            settings->speed == static_cast<std::uint32_t>(SPEED_UNKNOWN)) {
            return std::nullopt;
        }
        return settings->speed;
    }

    // "" if there is none.
    [[nodiscard]] std::string name_of(std::uint32_t ifindex) const {
        ifreq request{};
        request.ifr_ifindex = static_cast<int>(ifindex);
        return ::ioctl(socket_.get(), SIOCGIFNAME, &request) == 0 ? static_cast<const char*>(request.ifr_name) : "";
    }

    // The names of the feature bits, which are the same for every interface of a kernel.
    int names(const std::string& name, std::vector<std::string>& out) const {
        std::array<std::uint64_t, 3> info{};  // the head of 16 bytes, then one length
        auto* sizes = reinterpret_cast<ethtool_sset_info*>(info.data());
        sizes->cmd = ETHTOOL_GSSET_INFO;
        sizes->sset_mask = 1ull << ETH_SS_FEATURES;
        if (const int err = call(name, sizes); err != 0) {
            return err;
        }
        std::uint32_t length = 0;
        std::memcpy(&length, info.data() + 2, sizeof(length));
        std::vector<std::uint32_t> buffer((sizeof(ethtool_gstrings) + std::size_t{length} * ETH_GSTRING_LEN) / 4 + 1);
        auto* strings = reinterpret_cast<ethtool_gstrings*>(buffer.data());
        strings->cmd = ETHTOOL_GSTRINGS;
        strings->string_set = ETH_SS_FEATURES;
        strings->len = length;
        if (const int err = call(name, strings); err != 0) {
            return err;
        }
        const auto* text = reinterpret_cast<const char*>(strings) + sizeof(ethtool_gstrings);
        for (std::uint32_t i = 0; i < strings->len; ++i, text += ETH_GSTRING_LEN) {
            out.emplace_back(text, ::strnlen(text, ETH_GSTRING_LEN));
        }
        return 0;
    }

private:
    Fd socket_;
};

Result<> set_features_here(const Ethtool& ethtool, const std::string& name, const std::vector<std::string>& names,
                           const std::map<std::string, bool>& wanted) {
    const std::size_t blocks = (names.size() + 31) / 32;
    std::vector<std::uint32_t> buffer(sizeof(ethtool_sfeatures) / 4 + blocks * 2);
    auto* command = reinterpret_cast<ethtool_sfeatures*>(buffer.data());
    command->cmd = ETHTOOL_SFEATURES;
    command->size = static_cast<std::uint32_t>(blocks);
    std::uint32_t* set = buffer.data() + sizeof(ethtool_sfeatures) / 4;  // pairs of {valid, requested}
    for (std::size_t bit = 0; bit < names.size(); ++bit) {
        if (const auto want = wanted.find(names[bit]); want != wanted.end()) {
            set[bit / 32 * 2] |= 1u << (bit % 32);
            set[bit / 32 * 2 + 1] |= want->second ? 1u << (bit % 32) : 0u;
        }
    }
    // A positive result (as errno cannot show it) says that some bits were not taken; the read back tells.
    if (const int err = ethtool.call(name, command); err != 0) {
        return os_error(err, "IVDS-N003", "set features of " + name);
    }
    return {};
}

Result<Features> features_here(const Ethtool& ethtool, const std::string& name,
                               const std::vector<std::string>& names) {
    const std::size_t blocks = (names.size() + 31) / 32;
    std::vector<std::uint32_t> buffer(sizeof(ethtool_gfeatures) / 4 + blocks * 4);
    auto* command = reinterpret_cast<ethtool_gfeatures*>(buffer.data());
    command->cmd = ETHTOOL_GFEATURES;
    command->size = static_cast<std::uint32_t>(blocks);
    if (const int err = ethtool.call(name, command); err != 0) {
        return os_error(err, "IVDS-N003", "read features of " + name);
    }
    const std::uint32_t* got =
        buffer.data() + sizeof(ethtool_gfeatures) / 4;  // {available, requested, active, never}
    Features features;
    for (std::size_t bit = 0; bit < names.size(); ++bit) {
        const std::uint32_t mask = 1u << (bit % 32);
        const std::uint32_t* block = got + bit / 32 * 4;
        features[names[bit]] = {(block[2] & mask) != 0, (block[0] & mask) == 0 || (block[3] & mask) != 0};
    }
    return features;
}

std::unexpected<Error> no_peer(const std::string& name) {
    return fail(Code::unavailable, "IVDS-N004", "the namespace of the peer of " + name + " cannot be found",
                "name it under /run/netns, or keep a process in it");
}

}  // namespace

// ------------------------------------------------------------------ NetdevQuery

struct NetdevQuery::Impl {
    Socket route;
    Socket generic;
    int family = -1;
    Ethtool ethtool;
    std::vector<std::string> names;
    std::map<int, std::string> namespaces;  // nsid as seen from here -> a path that opens it

    Result<> learn_features(std::vector<Netdev>& netdevs, std::uint32_t only) {
        if (family < 0) {
            return {};
        }
        const Message msg(nlmsg_alloc());
        genlmsg_put(msg.get(), NL_AUTO_PORT, NL_AUTO_SEQ, family, 0, only == 0 ? NLM_F_DUMP : 0, kNetdevDevGet, 1);
        if (only != 0) {
            nla_put_u32(msg.get(), kNetdevAttrIfindex, only);
        }
        std::map<std::uint32_t, std::uint64_t> features;
        const int err = converse(generic.get(), msg.get(), [&](nlmsghdr* header) {
            if (const auto parsed = parse_features(header)) {
                features.insert(*parsed);
            }
        });
        if (err != 0 && err != -ENODEV) {
            return os_error(err, "IVDS-N001", "read xdp-features");
        }
        for (auto& netdev : netdevs) {
            if (const auto found = features.find(netdev.ifindex); found != features.end()) {
                netdev.xdp_features = found->second;
            }
        }
        return {};
    }

    // Fills `namespaces` from the named ones and those of running processes, each looked at once.
    void find_namespaces() {
        std::set<ino_t> seen;
        const auto offer = [&](const std::string& path) {
            struct stat info{};
            if (::stat(path.c_str(), &info) != 0 || !seen.insert(info.st_ino).second) {
                return;
            }
            const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
            if (!fd) {
                return;
            }
            const Message msg(nlmsg_alloc_simple(RTM_GETNSID, NLM_F_REQUEST));
            rtgenmsg general{};
            nlmsg_append(msg.get(), &general, sizeof(general), NLMSG_ALIGNTO);
            nla_put_u32(msg.get(), NETNSA_FD, static_cast<std::uint32_t>(fd.get()));
            (void)converse(route.get(), msg.get(), [&](nlmsghdr* header) {
                std::array<nlattr*, NETNSA_MAX + 1> attrs{};
                if (nlmsg_parse(header, sizeof(rtgenmsg), attrs.data(), NETNSA_MAX, nullptr) == 0 &&
                    attrs[NETNSA_NSID] != nullptr && nla_get_s32(attrs[NETNSA_NSID]) >= 0) {
                    namespaces[nla_get_s32(attrs[NETNSA_NSID])] = path;
                }
            });
        };
        namespaces.clear();
        const auto each = [](const char* folder, const auto& visit) {
            const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(folder), ::closedir);
            while (const dirent* entry = dir ? ::readdir(dir.get()) : nullptr) {
                visit(std::string(static_cast<const char*>(entry->d_name)));
            }
        };
        each("/run/netns", [&](const std::string& name) {
            if (name[0] != '.') {
                offer("/run/netns/" + name);
            }
        });
        each("/proc", [&](const std::string& name) {
            if (name[0] >= '0' && name[0] <= '9') {
                offer("/proc/" + name + "/ns/net");
            }
        });
    }

    // The kernel tells of a lost carrier a moment later, when it gets its lock on all links, and of one that is back
    // by then nothing. Waits until it has told who has the other end of a cable that is out, of a veth the peer; for
    // two seconds at most, as that end may be out of sight.
    void wait_until_told(const Netdev& netdev) const {
        const bool veth = netdev.is_veth();
        const Message msg = link_request(RTM_GETLINK, 0, veth ? netdev.peer_ifindex : netdev.ifindex, "");
        if (veth && netdev.peer_nsid >= 0) {
            nla_put_s32(msg.get(), IFLA_TARGET_NETNSID, netdev.peer_nsid);
        }
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
        bool told = false;
        while (!told && std::chrono::steady_clock::now() < end) {
            const int err = converse(route.get(), msg.get(), [&](nlmsghdr* header) {
                std::array<nlattr*, IFLA_MAX + 1> attrs{};
                if (nlmsg_parse(header, sizeof(ifinfomsg), attrs.data(), IFLA_MAX, nullptr) == 0 &&
                    attrs[IFLA_OPERSTATE] != nullptr) {
                    const std::uint8_t state = nla_get_u8(attrs[IFLA_OPERSTATE]);
                    told = state != IF_OPER_UP && state != IF_OPER_UNKNOWN;
                }
            });
            if (err != 0) {
                return;
            }
            if (!told) {
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            }
        }
    }

    // Runs `work` in the namespace of the veth's peer, with an ethtool socket of it and the peer's name there.
    // A thread of its own enters, so that this process' threads never leave theirs.
    Result<> at_peer(const Netdev& netdev, const std::function<Result<>(const Ethtool&, const std::string&)>& work) {
        if (!netdev.is_veth() || netdev.peer_ifindex == 0) {
            return no_peer(netdev.name);
        }
        if (netdev.peer_nsid < 0) {
            const auto name = ethtool.name_of(netdev.peer_ifindex);
            return name.empty() ? no_peer(netdev.name) : work(ethtool, name);
        }
        for (const bool again : {false, true}) {
            if (again || !namespaces.contains(netdev.peer_nsid)) {
                find_namespaces();
            }
            const auto found = namespaces.find(netdev.peer_nsid);
            if (found == namespaces.end()) {
                break;
            }
            const Fd fd(::open(found->second.c_str(), O_RDONLY | O_CLOEXEC));
            if (!fd) {
                continue;
            }
            Result<> result;
            bool there = false;
            std::thread([&] {
                if (::setns(fd.get(), CLONE_NEWNET) != 0) {
                    result = os_error(errno, "IVDS-N004", "enter the namespace of the peer of " + netdev.name);
                    return;
                }
                const Ethtool inside;
                if (const auto name = inside.name_of(netdev.peer_ifindex); !name.empty()) {
                    there = true;
                    result = work(inside, name);
                }
            }).join();
            if (there || !result) {
                return result;
            }
        }
        return no_peer(netdev.name);
    }

    Result<> know_names(const Ethtool& where, const std::string& name) {
        if (names.empty()) {
            if (const int err = where.names(name, names); err != 0) {
                names.clear();
                return os_error(err, "IVDS-N003", "read the names of features of " + name);
            }
        }
        return {};
    }

    Result<> at(const Netdev& netdev, bool peer,
                const std::function<Result<>(const Ethtool&, const std::string&)>& work) {
        return peer ? at_peer(netdev, work) : work(ethtool, netdev.name);
    }
};

NetdevQuery::NetdevQuery(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
NetdevQuery::NetdevQuery(NetdevQuery&&) noexcept = default;
NetdevQuery& NetdevQuery::operator=(NetdevQuery&&) noexcept = default;
NetdevQuery::~NetdevQuery() = default;

Result<NetdevQuery> NetdevQuery::open() {
    auto impl = std::make_unique<Impl>();
    auto route = connect(NETLINK_ROUTE);
    if (!route) {
        return std::unexpected(route.error());
    }
    impl->route = std::move(*route);
    auto generic = connect(NETLINK_GENERIC);
    if (!generic) {
        return std::unexpected(generic.error());
    }
    impl->generic = std::move(*generic);
    impl->family = genl_ctrl_resolve(impl->generic.get(), kNetdevFamily);
    return NetdevQuery(std::move(impl));
}

Result<std::vector<Netdev>> NetdevQuery::all() {
    std::vector<Netdev> netdevs;
    const Message msg = link_request(RTM_GETLINK, NLM_F_DUMP, 0, "");
    const int err = converse(impl_->route.get(), msg.get(), [&](nlmsghdr* header) {
        if (auto netdev = parse_link(header)) {
            netdevs.push_back(std::move(*netdev));
        }
    });
    if (err != 0) {
        return os_error(err, "IVDS-N001", "list the interfaces");
    }
    if (const int queues = learn_queues(impl_->route.get(), netdevs); queues != 0) {
        return os_error(queues, "IVDS-N001", "list the qdiscs");
    }
    if (auto r = impl_->learn_features(netdevs, 0); !r) {
        return std::unexpected(r.error());
    }
    return netdevs;
}

Result<std::optional<Netdev>> NetdevQuery::by_name(const std::string& name) {
    std::vector<Netdev> netdevs;
    if (name.empty() || name.size() >= IFNAMSIZ) {
        return std::nullopt;
    }
    const Message msg = link_request(RTM_GETLINK, 0, 0, name);
    const int err = converse(impl_->route.get(), msg.get(), [&](nlmsghdr* header) {
        if (auto netdev = parse_link(header)) {
            netdevs.push_back(std::move(*netdev));
        }
    });
    if (err == -ENODEV || (err == 0 && netdevs.empty())) {
        return std::nullopt;
    }
    if (err != 0) {
        return os_error(err, "IVDS-N001", "look up the interface " + name);
    }
    // The kernel also finds an interface by an alternative name; a port means the name itself.
    if (netdevs.front().name != name) {
        return std::nullopt;
    }
    if (const int queues = learn_queues(impl_->route.get(), netdevs); queues != 0) {
        return os_error(queues, "IVDS-N001", "list the qdiscs of " + name);
    }
    if (auto r = impl_->learn_features(netdevs, netdevs.front().ifindex); !r) {
        return std::unexpected(r.error());
    }
    return std::optional(std::move(netdevs.front()));
}

Result<> NetdevQuery::set_flag(std::uint32_t ifindex, unsigned flag, bool on) {
    const Message msg(nlmsg_alloc_simple(RTM_NEWLINK, NLM_F_REQUEST));
    ifinfomsg info{};
    info.ifi_family = AF_UNSPEC;
    info.ifi_index = static_cast<int>(ifindex);
    info.ifi_change = flag;
    info.ifi_flags = on ? flag : 0;
    nlmsg_append(msg.get(), &info, sizeof(info), NLMSG_ALIGNTO);
    if (const int err = converse(impl_->route.get(), msg.get(), [](nlmsghdr*) {}); err != 0) {
        return os_error(
            err, "IVDS-N002",
            fmt::format("set interface {} {}", ifindex,
                        flag == IFF_UP ? (on ? "up" : "down") : (on ? "promiscuous" : "not promiscuous")));
    }
    return {};
}

Result<> NetdevQuery::set_link(const std::string& name, bool on) {
    const auto netdev = by_name(name);
    if (!netdev) {
        return std::unexpected(netdev.error());
    }
    if (!*netdev) {
        return fail(Code::not_found, "IVDS-N001", fmt::format("there is no interface {}", name));
    }
    if (on) {
        impl_->wait_until_told(**netdev);
    }
    if ((*netdev)->is_veth()) {
        return set_flag((*netdev)->ifindex, IFF_UP, on);
    }
    const Message msg = link_request(RTM_NEWLINK, 0, (*netdev)->ifindex, "");
    nla_put_u8(msg.get(), IFLA_CARRIER, on ? 1 : 0);
    const int err = converse(impl_->route.get(), msg.get(), [](nlmsghdr*) {});
    if (err == -EOPNOTSUPP) {
        return fail(Code::unsupported, "IVDS-N005",
                    fmt::format("the driver of interface {} cannot take its carrier away", name),
                    "leave --replug out; the hypervisor can unplug the link, as with virsh domif-setlink");
    }
    if (err != 0) {
        return os_error(err, "IVDS-N002", fmt::format("set the carrier of {} {}", name, on ? "on" : "off"));
    }
    return {};
}

Result<> NetdevQuery::make_pair(const std::string& one, const std::string& other, const std::string& alias) {
    constexpr std::uint32_t kLongest = 65535;
    // What both ends are; the peer's part of the message is a message of its own.
    const auto add_end = [&](nl_msg* msg, const std::string& name) {
        nla_put_string(msg, IFLA_IFNAME, name.c_str());
        nla_put_u32(msg, IFLA_MTU, kLongest);
    };
    const Message msg(nlmsg_alloc_simple(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL));
    ifinfomsg info{};
    info.ifi_family = AF_UNSPEC;
    info.ifi_flags = IFF_NOARP;
    info.ifi_change = IFF_NOARP;
    nlmsg_append(msg.get(), &info, sizeof(info), NLMSG_ALIGNTO);
    add_end(msg.get(), one);
    auto* link = nla_nest_start(msg.get(), IFLA_LINKINFO);
    nla_put_string(msg.get(), IFLA_INFO_KIND, "veth");
    auto* data = nla_nest_start(msg.get(), IFLA_INFO_DATA);
    auto* peer = nla_nest_start(msg.get(), VETH_INFO_PEER);
    nlmsg_append(msg.get(), &info, sizeof(info), NLMSG_ALIGNTO);
    add_end(msg.get(), other);
    nla_nest_end(msg.get(), peer);
    nla_nest_end(msg.get(), data);
    nla_nest_end(msg.get(), link);
    if (const int err = converse(impl_->route.get(), msg.get(), [](nlmsghdr*) {}); err != 0) {
        return os_error(err, "IVDS-N006", fmt::format("make the interfaces {} and {}", one, other));
    }
    // The alias is taken only once the interface is there.
    const Message named = link_request(RTM_NEWLINK, 0, 0, one);
    nla_put_string(named.get(), IFLA_IFALIAS, alias.c_str());
    if (const int err = converse(impl_->route.get(), named.get(), [](nlmsghdr*) {}); err != 0) {
        return os_error(err, "IVDS-N006", "name the interface " + one);
    }
    return {};
}

Result<> NetdevQuery::remove(std::uint32_t ifindex) {
    const Message msg = link_request(RTM_DELLINK, 0, ifindex, "");
    if (const int err = converse(impl_->route.get(), msg.get(), [](nlmsghdr*) {}); err != 0 && err != -ENODEV) {
        return os_error(err, "IVDS-N006", fmt::format("remove interface {}", ifindex));
    }
    return {};
}

Result<std::map<std::string, Interface>> NetdevQuery::look(const std::set<std::string>& names, bool thorough) {
    // From so many on, one list of all interfaces is cheaper than a request for each.
    constexpr std::size_t list_all_from = 8;
    std::map<std::string, Interface> out;
    if (names.size() >= list_all_from) {
        auto netdevs = all();
        if (!netdevs) {
            return std::unexpected(netdevs.error());
        }
        for (Netdev& netdev : *netdevs) {
            if (names.contains(netdev.name)) {
                out[netdev.name].netdev = std::move(netdev);
            }
        }
    } else {
        for (const std::string& name : names) {
            auto netdev = by_name(name);
            if (!netdev) {
                return std::unexpected(netdev.error());
            }
            if (*netdev) {
                out[name].netdev = std::move(**netdev);
            }
        }
    }
    for (auto& [name, interface] : out) {
        DriverFacts& facts = interface.facts;
        facts.speed_mbps = impl_->ethtool.speed_mbps(name);
        if (!thorough) {
            continue;
        }
        ethtool_drvinfo info{};
        info.cmd = ETHTOOL_GDRVINFO;
        if (impl_->ethtool.call(name, &info) == 0) {
            facts.driver = static_cast<const char*>(info.driver);
            facts.bus_info = static_cast<const char*>(info.bus_info);
        }
        ethtool_channels channels{};
        channels.cmd = ETHTOOL_GCHANNELS;
        if (impl_->ethtool.call(name, &channels) == 0) {
            facts.rx_queues = channels.rx_count + channels.combined_count;
            facts.tx_queues = channels.tx_count + channels.combined_count;
        }
        if (const auto known = features(interface.netdev, false)) {
            if (const auto strip = known->find("rx-vlan-hw-parse"); strip != known->end()) {
                facts.vlan_strip = strip->second;
            }
        }
        // No netlink message tells how many VFs a NIC can make.
        std::ifstream("/sys/class/net/" + name + "/device/sriov_totalvfs") >> facts.vfs_total;
    }
    return out;
}

Result<std::string> NetdevQuery::driver(const std::string& name) {
    ethtool_drvinfo info{};
    info.cmd = ETHTOOL_GDRVINFO;
    if (const int err = impl_->ethtool.call(name, &info); err != 0) {
        return os_error(err, "IVDS-N003", "ask for the driver of " + name);
    }
    return std::string(static_cast<const char*>(info.driver));
}

Result<Features> NetdevQuery::features(const Netdev& netdev, bool peer) {
    Features out;
    auto r = impl_->at(netdev, peer, [&](const Ethtool& where, const std::string& name) -> Result<> {
        if (auto known = impl_->know_names(where, name); !known) {
            return known;
        }
        auto got = features_here(where, name, impl_->names);
        if (!got) {
            return std::unexpected(got.error());
        }
        out = std::move(*got);
        return {};
    });
    if (!r) {
        return std::unexpected(r.error());
    }
    return out;
}

Result<> NetdevQuery::set_features(const Netdev& netdev, bool peer, const std::map<std::string, bool>& wanted) {
    return impl_->at(netdev, peer, [&](const Ethtool& where, const std::string& name) -> Result<> {
        if (auto known = impl_->know_names(where, name); !known) {
            return known;
        }
        return set_features_here(where, name, impl_->names, wanted);
    });
}

// ------------------------------------------------------------------ NetdevWatch

struct NetdevWatch::Impl {
    Socket route;
    Socket queries;  // for what the messages do not say
    Socket generic;
    Fd poll;
};

NetdevWatch::NetdevWatch(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
NetdevWatch::NetdevWatch(NetdevWatch&&) noexcept = default;
NetdevWatch& NetdevWatch::operator=(NetdevWatch&&) noexcept = default;
NetdevWatch::~NetdevWatch() = default;

Result<NetdevWatch> NetdevWatch::open() {
    auto impl = std::make_unique<Impl>();
    auto route = connect(NETLINK_ROUTE);
    auto queries = connect(NETLINK_ROUTE);
    auto generic = connect(NETLINK_GENERIC);
    if (!route || !queries || !generic) {
        return std::unexpected(!route ? route.error() : !queries ? queries.error() : generic.error());
    }
    impl->route = std::move(*route);
    impl->queries = std::move(*queries);
    impl->generic = std::move(*generic);
    impl->poll.reset(::epoll_create1(EPOLL_CLOEXEC));
    if (!impl->poll) {
        return os_error(errno, "IVDS-N005", "make the watch's poll set");
    }
    if (const int err = nl_socket_add_membership(impl->route.get(), RTNLGRP_LINK); err < 0) {
        return nl_failed(err, "watch interfaces");
    }
    // A change of an interface's qdisc is none of the interface.
    if (const int err = nl_socket_add_membership(impl->route.get(), RTNLGRP_TC); err < 0) {
        return nl_failed(err, "watch qdiscs");
    }
    if (const int group = genl_ctrl_resolve_grp(impl->generic.get(), kNetdevFamily, "mgmt"); group >= 0) {
        if (const int err = nl_socket_add_membership(impl->generic.get(), group); err < 0) {
            return nl_failed(err, "watch xdp-features");
        }
    }
    for (auto* socket : {impl->route.get(), impl->generic.get()}) {
        nl_socket_set_buffer_size(socket, 1024 * 1024, 0);
        nl_socket_set_nonblocking(socket);
        epoll_event event{};
        event.events = EPOLLIN;
        if (::epoll_ctl(impl->poll.get(), EPOLL_CTL_ADD, nl_socket_get_fd(socket), &event) != 0) {
            return os_error(errno, "IVDS-N005", "poll the watch's sockets");
        }
    }
    return NetdevWatch(std::move(impl));
}

int NetdevWatch::fd() const {
    return impl_->poll.get();
}

bool NetdevWatch::read(const std::function<void(const Change&)>& sink) {
    bool complete = true;
    const auto drain = [&](nl_sock* socket, Sink on) {
        const std::unique_ptr<nl_cb, void (*)(nl_cb*)> callbacks(nl_cb_alloc(NL_CB_CUSTOM), nl_cb_put);
        nl_cb_set(callbacks.get(), NL_CB_VALID, NL_CB_CUSTOM, on_message, &on);
        nl_cb_set(callbacks.get(), NL_CB_SEQ_CHECK, NL_CB_CUSTOM, on_any_sequence, nullptr);
        for (;;) {
            const int err = nl_recvmsgs(socket, callbacks.get());
            if (err == -NLE_NOMEM) {  // ENOBUFS
                complete = false;
                continue;
            }
            if (err < 0) {
                return;
            }
        }
    };
    std::vector<Netdev> links;
    std::vector<bool> gone;
    drain(impl_->route.get(), [&](nlmsghdr* header) {
        if (header->nlmsg_type == RTM_NEWQDISC || header->nlmsg_type == RTM_DELQDISC) {
            const auto* qdisc = static_cast<const tcmsg*>(nlmsg_data(header));
            if (leads_out(*qdisc)) {
                // The answer comes as a message of the interface's.
                const Message msg = link_request(RTM_GETLINK, 0, static_cast<std::uint32_t>(qdisc->tcm_ifindex), "");
                (void)nl_send_auto(impl_->route.get(), msg.get());
            }
            return;
        }
        if (header->nlmsg_type != RTM_NEWLINK && header->nlmsg_type != RTM_DELLINK) {
            return;
        }
        // Bridges report their ports under their own family; that is no change of the interface.
        if (static_cast<const ifinfomsg*>(nlmsg_data(header))->ifi_family != AF_UNSPEC) {
            return;
        }
        if (auto netdev = parse_link(header)) {
            links.push_back(std::move(*netdev));
            gone.push_back(header->nlmsg_type == RTM_DELLINK);
        }
    });
    (void)learn_queues(impl_->queries.get(), links);
    for (std::size_t i = 0; i < links.size(); ++i) {
        sink({std::move(links[i]), gone[i], false});
    }
    drain(impl_->generic.get(), [&](nlmsghdr* header) {
        const auto command = static_cast<const genlmsghdr*>(nlmsg_data(header))->cmd;
        if (command != kNetdevDevAdded && command != kNetdevDevChanged) {
            return;
        }
        if (const auto features = parse_features(header)) {
            Change change;
            change.netdev.ifindex = features->first;
            change.netdev.xdp_features = features->second;
            change.features_only = true;
            sink(change);
        }
    });
    return complete;
}

}  // namespace ivds
