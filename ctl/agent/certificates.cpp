// SPDX-License-Identifier: Apache-2.0
#include "agent/certificates.h"

#include <fmt/format.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <utility>

#include "loader/file.h"

namespace ivds {
namespace {

struct FreePem {
    void operator()(BIO* bio) const { ::BIO_free(bio); }
    void operator()(X509* cert) const { ::X509_free(cert); }
    void operator()(EVP_PKEY* key) const { ::EVP_PKEY_free(key); }
};

// What of a PEM text `parse` finds first, or null.
template <class T>
std::unique_ptr<T, FreePem> first_of(const std::string& pem, T* (*parse)(BIO*, T**, pem_password_cb*, void*)) {
    const std::unique_ptr<BIO, FreePem> bio(::BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    // No password is ever asked for.
    return std::unique_ptr<T, FreePem>(parse(bio.get(), nullptr, nullptr, const_cast<char*>("")));
}

// gRPC itself would say no more than that it cannot listen, so the files are looked at first.
Result<Certificates::Pem> read(const CertificateFiles& files) {
    auto cert = read_text(files.cert, "IVDS-A005");
    if (!cert) return std::unexpected(cert.error());
    auto key = read_text(files.key, "IVDS-A005");
    if (!key) return std::unexpected(key.error());
    auto ca = files.metrics ? Result<std::string>() : read_text(files.ca, "IVDS-A005");
    if (!ca) return std::unexpected(ca.error());
    const auto x509 = first_of(*cert, &::PEM_read_bio_X509);
    const auto pkey = first_of(*key, &::PEM_read_bio_PrivateKey);
    const auto bad = [&](const char* which, const std::string& file, const std::string& what) {
        return files.metrics
                   ? fail(
                         Code::invalid, "IVDS-A080", fmt::format("{} {}: {}", files.option(), file, what),
                         "give a file in PEM with the certificate, then those that vouch for it, and the key without "
                         "a password")
                   : fail(Code::invalid, "IVDS-A014", fmt::format("{}{} {}: {}", files.option(), which, file, what),
                          "give files in PEM, the key without a password");
    };
    if (x509 == nullptr) return bad("-cert", files.cert, "no certificate");
    if (pkey == nullptr) return bad("-key", files.key, "no key that can be read");
    if (::X509_check_private_key(x509.get(), pkey.get()) != 1)
        return bad("-key", files.key, "not the key of the certificate " + files.cert);
    if (!files.metrics && first_of(*ca, &::PEM_read_bio_X509) == nullptr)
        return bad("-ca", files.ca, "no certificate");
    return Certificates::Pem{std::move(*cert), std::move(*key), std::move(*ca)};
}

// Changes with each way of putting another file, or other content, in a file's place.
std::string identity(const CertificateFiles& files) {
    std::string out;
    for (const std::string* path : {&files.cert, &files.key, &files.ca}) {
        struct stat info{};
        if (::stat(path->c_str(), &info) != 0)
            out += "none ";
        else
            out += fmt::format("{} {} {} {}.{:09} ", info.st_dev, info.st_ino, info.st_size, info.st_mtim.tv_sec,
                               info.st_mtim.tv_nsec);
    }
    return out;
}

// gRPC's own credentials of files are read once. Its core asks for new ones at each handshake, and goes on with the
// last ones where they cannot be used; no class of its C++ part does that.
class Reloading final : public grpc::ServerCredentials {
public:
    explicit Reloading(std::shared_ptr<Certificates> of) : of_(std::move(of)) {
        auto* options = ::grpc_ssl_server_credentials_create_options_using_config_fetcher(
            GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY, &fetch, this);
        credentials_ = ::grpc_ssl_server_credentials_create_with_options(options);
    }
    ~Reloading() override { ::grpc_server_credentials_release(credentials_); }
    Reloading(const Reloading&) = delete;
    Reloading& operator=(const Reloading&) = delete;

    void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

private:
    int AddPortToServer(const std::string& address, grpc_server* server) override {
        return ::grpc_server_add_http2_port(server, address.c_str(), credentials_);
    }

    // The core makes one call at a time.
    static grpc_ssl_certificate_config_reload_status fetch(void* data, grpc_ssl_server_certificate_config** config) {
        auto& self = *static_cast<Reloading*>(data);
        const auto [pem, generation] = self.of_->now();
        if (generation == self.given_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
        const grpc_ssl_pem_key_cert_pair pair = {pem.key.c_str(), pem.cert.c_str()};
        *config = ::grpc_ssl_server_certificate_config_create(pem.ca.c_str(), &pair, 1);
        self.given_ = generation;
        return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
    }

    const std::shared_ptr<Certificates> of_;
    std::uint64_t given_ = 0;
    grpc_server_credentials* credentials_ = nullptr;
};

}  // namespace

Certificates::Certificates(CertificateFiles files, Pem pem)
    : files_(std::move(files)), seen_(identity(files_)), pem_(std::move(pem)) {}

Result<std::shared_ptr<Certificates>> Certificates::open(CertificateFiles files) {
    if (!files.metrics && (files.cert.empty() || files.key.empty() || files.ca.empty()))
        return fail(Code::invalid, "IVDS-A014", "--listen without a certificate, its key and the clients' authority",
                    "give --listen-cert, --listen-key and --listen-ca; there is no access by TCP without TLS");
    auto pem = read(files);
    if (!pem) return std::unexpected(pem.error());
    return std::shared_ptr<Certificates>(new Certificates(std::move(files), std::move(*pem)));
}

std::shared_ptr<grpc::ServerCredentials> Certificates::credentials(std::shared_ptr<Certificates> of) {
    return std::make_shared<Reloading>(std::move(of));
}

bool Certificates::look() {
    std::string found = identity(files_);
    if (found == seen_) return false;
    seen_ = std::move(found);
    auto pem = read(files_);
    const std::lock_guard lock(mutex_);
    if (!pem) {
        spdlog::warn("IVDS-A024 the files of {} changed, and those from before stay in use: {}", files_.option(),
                     pem.error().text());
        refused_ = pem.error();
        return false;
    }
    refused_.reset();
    pem_ = std::move(*pem);
    ++generation_;
    spdlog::info("the files of {} were read anew: connections from now on are made with them", files_.option());
    return true;
}

std::optional<Finding> Certificates::finding() const {
    const std::lock_guard lock(mutex_);
    if (!refused_) return std::nullopt;
    return Finding{.severity = Finding::Severity::error,
                   .id = "IVDS-A024",
                   .object = files_.option(),
                   .text = "its files changed, and those from before stay in use: " + refused_->what,
                   .fix = refused_->fix + "; they are read again as soon as they change"};
}

std::pair<Certificates::Pem, std::uint64_t> Certificates::now() const {
    const std::lock_guard lock(mutex_);
    return {pem_, generation_};
}

}  // namespace ivds
