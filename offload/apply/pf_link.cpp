// SPDX-License-Identifier: Apache-2.0
#include "apply/pf_link.h"

#include <fmt/format.h>
#include <linux/if_bridge.h>
#include <linux/if_ether.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <netlink/route/link/sriov.h>
#include <netlink/route/link/vlan.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <utility>

namespace ivds::offload {

namespace {

template <auto release>
struct Releases {
    template <class T>
    void operator()(T* object) const {
        release(object);
    }
};
using Socket = std::unique_ptr<nl_sock, Releases<nl_socket_free>>;
using Link = std::unique_ptr<rtnl_link, Releases<rtnl_link_put>>;
using VfObject = std::unique_ptr<rtnl_link_vf, Releases<rtnl_link_vf_put>>;
using Address = std::unique_ptr<nl_addr, Releases<nl_addr_put>>;
using Cache = std::unique_ptr<nl_cache, Releases<nl_cache_free>>;
using Message = std::unique_ptr<nl_msg, Releases<nlmsg_free>>;

Result<> failed(int err, const std::string& what) {
    switch (-err) {
        case NLE_NODEV:
        case NLE_OBJ_NOTFOUND:
            return fail(Code::unavailable, "IVDS-O011", what + ": the interface is gone", "look for the NIC anew");
        case NLE_PERM:
        case NLE_NOACCESS:
            return os_error(EPERM, "IVDS-O019", what, "run as root (CAP_NET_ADMIN)");
        case NLE_OPNOTSUPP:
            return fail(Code::unsupported, "IVDS-O019", what + ": the driver does not do that",
                        "let software carry it");
        case NLE_INVAL:
            return os_error(EINVAL, "IVDS-O019", what, "see the kernel's log; the NIC's link may be down");
        case NLE_BUSY:
            return os_error(EBUSY, "IVDS-O019", what, "try again");
        case NLE_NOMEM:
        case NLE_RANGE:
            return fail(Code::exhausted, "IVDS-O019", what + ": the driver has no room for it", "offload less");
        default:
            return fail(Code::system, "IVDS-O019", fmt::format("{}: {}", what, nl_geterror(err)),
                        "see the kernel's log");
    }
}

Mac mac_of(nl_addr* address) {
    Mac mac{};
    if (address != nullptr && nl_addr_get_len(address) == mac.size())
        std::copy_n(static_cast<const std::uint8_t*>(nl_addr_get_binary_addr(address)), mac.size(), mac.begin());
    return mac;
}

VfSettings settings_of(rtnl_link_vf* vf) {
    VfSettings out;
    nl_addr* address = nullptr;
    if (rtnl_link_vf_get_addr(vf, &address) == 0) out.mac = mac_of(address);
    nl_vf_vlans_t* vlans = nullptr;
    if (rtnl_link_vf_get_vlans(vf, &vlans) == 0 && vlans != nullptr) {
        if (vlans->size > 0) {
            out.vlan = static_cast<std::uint16_t>(vlans->vlans[0].vf_vlan);
            out.pcp = static_cast<std::uint8_t>(vlans->vlans[0].vf_vlan_qos);
        }
        rtnl_link_vf_vlan_put(vlans);
    }
    std::uint32_t flag = 0;
    if (rtnl_link_vf_get_spoofchk(vf, &flag) == 0) out.spoof_check = flag == 1;
    if (rtnl_link_vf_get_trust(vf, &flag) == 0) out.trusted = flag == 1;
    if (rtnl_link_vf_get_linkstate(vf, &flag) == 0) out.link_off = flag == IFLA_VF_LINK_STATE_DISABLE;
    nl_vf_rate rate{};
    if (rtnl_link_vf_get_rate(vf, &rate) == 0)
        out.rate_mbps = rate.api == RTNL_LINK_VF_RATE_API_NEW ? rate.max_tx_rate : rate.rate;
    return out;
}

struct Neighbours {
    int ifindex;
    std::set<Mac>& addresses;
};

int take_neighbour(nl_msg* message, void* argument) {
    const auto& into = *static_cast<Neighbours*>(argument);
    nlmsghdr* header = nlmsg_hdr(message);
    if (header->nlmsg_type != RTM_NEWNEIGH) return NL_OK;
    const auto* about = static_cast<const ndmsg*>(nlmsg_data(header));
    const nlattr* address = nlmsg_find_attr(header, sizeof(ndmsg), NDA_LLADDR);
    Mac mac{};
    if (about->ndm_ifindex != into.ifindex || (about->ndm_flags & NTF_SELF) == 0 || address == nullptr ||
        nla_len(address) != static_cast<int>(mac.size()))
        return NL_OK;
    std::copy_n(static_cast<const std::uint8_t*>(nla_data(address)), mac.size(), mac.begin());
    if ((mac[0] & 1U) == 0) into.addresses.insert(mac);
    return NL_OK;
}

class LinuxPfLink final : public PfLink {
public:
    LinuxPfLink(std::string device, Socket socket) : device_(std::move(device)), socket_(std::move(socket)) {}

    Result<PfView> view() override {
        const auto link = get();
        if (!link) return std::unexpected(link.error());
        PfView out;
        const unsigned flags = rtnl_link_get_flags(link->get());
        out.up = (flags & IFF_UP) != 0;
        out.carrier = rtnl_link_get_carrier(link->get()) != 0;
        out.promiscuous = (flags & IFF_PROMISC) != 0;
        out.mac = mac_of(rtnl_link_get_addr(link->get()));
        std::uint32_t count = 0;
        if (rtnl_link_get_num_vf(link->get(), &count) != 0) count = 0;
        for (std::uint32_t i = 0; i < count; ++i) {
            const VfObject vf(rtnl_link_vf_get(link->get(), i));
            if (!vf)
                return fail(Code::unavailable, "IVDS-O011", fmt::format("{} does not tell of its VF {}", device_, i),
                            "its VFs are changing: try again");
            out.vfs.push_back(settings_of(vf.get()));
        }
        const int ifindex = rtnl_link_get_ifindex(link->get());
        if (auto done = take_addresses(ifindex, out); !done) return std::unexpected(done.error());
        if (auto done = take_devices(ifindex, out); !done) return std::unexpected(done.error());
        return out;
    }

    Result<> set_vf_mac(unsigned vf, const Mac& mac) override {
        return change(vf, fmt::format("set the MAC {} of VF {}", format_mac(mac), vf), [&](rtnl_link_vf* object) {
            const Address address(nl_addr_build(AF_LLC, mac.data(), mac.size()));
            rtnl_link_vf_set_addr(object, address.get());
        });
    }
    Result<> set_vf_vlan(unsigned vf, std::uint16_t vlan, std::uint8_t pcp) override {
        return change(vf, fmt::format("set VLAN {} of VF {}", vlan, vf), [&](rtnl_link_vf* object) {
            nl_vf_vlans_t* vlans = nullptr;
            if (rtnl_link_vf_vlan_alloc(&vlans, 1) != 0) return;
            vlans->vlans[0] = {.vf_vlan = vlan, .vf_vlan_qos = pcp, .vf_vlan_proto = ETH_P_8021Q};
            rtnl_link_vf_set_vlans(object, vlans);
            rtnl_link_vf_vlan_put(vlans);
        });
    }
    Result<> set_vf_spoof_check(unsigned vf, bool on) override {
        return change(vf, fmt::format("set the spoof check of VF {}", vf),
                      [&](rtnl_link_vf* object) { rtnl_link_vf_set_spoofchk(object, on ? 1 : 0); });
    }
    Result<> set_vf_trusted(unsigned vf, bool on) override {
        return change(vf, fmt::format("set the trust of VF {}", vf),
                      [&](rtnl_link_vf* object) { rtnl_link_vf_set_trust(object, on ? 1 : 0); });
    }
    Result<> set_vf_rate(unsigned vf, unsigned mbps) override {
        return change(vf, fmt::format("set {} Mb/s for VF {}", mbps, vf), [&](rtnl_link_vf* object) {
            nl_vf_rate rate{.api = RTNL_LINK_VF_RATE_API_NEW, .rate = 0, .max_tx_rate = mbps, .min_tx_rate = 0};
            rtnl_link_vf_set_rate(object, &rate);
        });
    }
    Result<> set_vf_link(unsigned vf, bool on) override {
        return change(vf, fmt::format("set the link of VF {}", vf), [&](rtnl_link_vf* object) {
            rtnl_link_vf_set_linkstate(object, on ? IFLA_VF_LINK_STATE_AUTO : IFLA_VF_LINK_STATE_DISABLE);
        });
    }
    Result<> set_promiscuous(bool on) override {
        const auto link = get();
        if (!link) return std::unexpected(link.error());
        const Link changes(rtnl_link_alloc());
        if (on)
            rtnl_link_set_flags(changes.get(), IFF_PROMISC);
        else
            rtnl_link_unset_flags(changes.get(), IFF_PROMISC);
        if (const int err = rtnl_link_change(socket_.get(), link->get(), changes.get(), 0); err < 0)
            return failed(err, fmt::format("set {} promiscuous", device_));
        return {};
    }
    Result<> set_address(const Mac& mac, bool on) override {
        const auto index = ifindex();
        if (!index) return std::unexpected(index.error());
        ndmsg about{};
        about.ndm_family = PF_BRIDGE;
        about.ndm_ifindex = *index;
        about.ndm_state = NUD_PERMANENT;
        about.ndm_flags = NTF_SELF;
        const Message message(
            nlmsg_alloc_simple(on ? RTM_NEWNEIGH : RTM_DELNEIGH, on ? NLM_F_CREATE | NLM_F_EXCL : 0));
        if (!message || nlmsg_append(message.get(), &about, sizeof about, NLMSG_ALIGNTO) < 0 ||
            nla_put(message.get(), NDA_LLADDR, static_cast<int>(mac.size()), mac.data()) < 0)
            return os_error(ENOMEM, "IVDS-O019", "build a message for an address");
        const int err = send(message.get());
        if (err >= 0 || err == (on ? -NLE_EXIST : -NLE_OBJ_NOTFOUND)) return {};
        return failed(err, fmt::format("{} the address {} {} {}", on ? "give" : "take", format_mac(mac),
                                       on ? "to" : "from", device_));
    }
    Result<> set_veb() override {
        const auto index = ifindex();
        if (!index) return std::unexpected(index.error());
        ifinfomsg about{};
        about.ifi_family = PF_BRIDGE;
        about.ifi_index = *index;
        const Message message(nlmsg_alloc_simple(RTM_SETLINK, 0));
        nlattr* spec = nullptr;
        if (!message || nlmsg_append(message.get(), &about, sizeof about, NLMSG_ALIGNTO) < 0 ||
            (spec = nla_nest_start(message.get(), IFLA_AF_SPEC)) == nullptr ||
            nla_put_u16(message.get(), IFLA_BRIDGE_FLAGS, BRIDGE_FLAGS_SELF) < 0 ||
            nla_put_u16(message.get(), IFLA_BRIDGE_MODE, BRIDGE_MODE_VEB) < 0)
            return os_error(ENOMEM, "IVDS-O019", "build a message for the bridge mode");
        nla_nest_end(message.get(), spec);
        if (const int err = send(message.get()); err < 0)
            return failed(err, fmt::format("set the bridge mode VEB of {}", device_));
        return {};
    }

private:
    int send(nl_msg* message) {
        const int err = nl_send_auto(socket_.get(), message);
        return err < 0 ? err : nl_wait_for_ack(socket_.get());
    }
    Result<int> ifindex() const {
        std::error_code error;
        for (std::filesystem::directory_iterator at(device_ + "/net", error), end; !error && at != end;
             at.increment(error)) {
            std::ifstream file(at->path() / "ifindex");
            int number = 0;
            if (file >> number) return number;
        }
        return fail(Code::unavailable, "IVDS-O011", fmt::format("{} has no interface here", device_),
                    "bind its driver, or move its interface to this network namespace");
    }
    Result<Link> get() {
        const auto index = ifindex();
        if (!index) return std::unexpected(index.error());
        rtnl_link* link = nullptr;
        if (const int err = rtnl_link_get_kernel(socket_.get(), *index, nullptr, &link); err < 0)
            return std::unexpected(failed(err, fmt::format("look at {}", device_)).error());
        return Link(link);
    }
    template <class Fill>
    Result<> change(unsigned index, const std::string& what, Fill&& fill) {
        const auto link = get();
        if (!link) return std::unexpected(link.error());
        const Link changes(rtnl_link_alloc());
        const VfObject vf(rtnl_link_vf_alloc());
        if (!changes || !vf) return os_error(ENOMEM, "IVDS-O019", what);
        rtnl_link_vf_set_index(vf.get(), index);
        fill(vf.get());
        if (const int err = rtnl_link_vf_add(changes.get(), vf.get()); err < 0) return failed(err, what);
        if (const int err = rtnl_link_change(socket_.get(), link->get(), changes.get(), 0); err < 0)
            return failed(err, fmt::format("{} of {}", what, rtnl_link_get_name(link->get())));
        return {};
    }

    Result<> take_addresses(int ifindex, PfView& out) {
        const Message message(nlmsg_alloc_simple(RTM_GETNEIGH, NLM_F_DUMP));
        ndmsg about{};
        about.ndm_family = PF_BRIDGE;
        about.ndm_ifindex = ifindex;
        if (!message || nlmsg_append(message.get(), &about, sizeof about, NLMSG_ALIGNTO) < 0)
            return os_error(ENOMEM, "IVDS-O019", "ask for the interface's addresses");
        Neighbours into{.ifindex = ifindex, .addresses = out.addresses};
        nl_socket_modify_cb(socket_.get(), NL_CB_VALID, NL_CB_CUSTOM, take_neighbour, &into);
        int err = nl_send_auto(socket_.get(), message.get());
        if (err >= 0) err = nl_recvmsgs_default(socket_.get());
        nl_socket_modify_cb(socket_.get(), NL_CB_VALID, NL_CB_DEFAULT, nullptr, nullptr);
        if (err < 0) return failed(err, "ask for the interface's addresses");
        return {};
    }
    Result<> take_devices(int ifindex, PfView& out) {
        nl_cache* all = nullptr;
        if (const int err = rtnl_link_alloc_cache(socket_.get(), AF_UNSPEC, &all); err < 0)
            return failed(err, "ask for the interfaces");
        const Cache cache(all);
        for (nl_object* at = nl_cache_get_first(all); at != nullptr; at = nl_cache_get_next(at)) {
            auto* link = reinterpret_cast<rtnl_link*>(at);
            if (rtnl_link_get_link(link) != ifindex || rtnl_link_get_ifindex(link) == ifindex) continue;
            out.device_addresses.insert(mac_of(rtnl_link_get_addr(link)));
            if (rtnl_link_is_vlan(link) != 0)
                out.vlans.insert(static_cast<std::uint16_t>(rtnl_link_vlan_get_id(link)));
        }
        return {};
    }

    std::string device_;
    Socket socket_;
};

}  // namespace

Result<PfView> view_of(PfLink& link, unsigned vfs) {
    auto view = link.view();
    if (view && view->vfs.size() != vfs)
        return fail(Code::unavailable, "IVDS-O021",
                    fmt::format("the PF has {} VFs, and had {} when it was opened", view->vfs.size(), vfs),
                    "open it anew");
    return view;
}

Result<std::unique_ptr<PfLink>> open_pf_link(const std::string& device) {
    Socket socket(nl_socket_alloc());
    if (!socket) return os_error(ENOMEM, "IVDS-O019", "allocate a netlink socket");
    if (const int err = nl_connect(socket.get(), NETLINK_ROUTE); err < 0)
        return std::unexpected(failed(err, "open a netlink socket").error());
    nl_socket_set_msg_buf_size(socket.get(), 64 * 1024);
    return std::make_unique<LinuxPfLink>(device, std::move(socket));
}

}  // namespace ivds::offload
