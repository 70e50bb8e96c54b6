// SPDX-License-Identifier: Apache-2.0
#include "fabric/validity.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>

namespace ivds {
namespace {

struct FreePem {
    void operator()(BIO* bio) const { ::BIO_free(bio); }
    void operator()(X509* cert) const { ::X509_free(cert); }
};

std::string text_of(const ASN1_TIME* time) {
    std::tm parts{};
    return ::ASN1_TIME_to_tm(time, &parts) == 1 ? fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", parts) : "an unknown time";
}

}  // namespace

std::string calendar_text(std::time_t time) {
    return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(time));
}

std::optional<std::string> why_not_valid(const std::string& pem, std::time_t now) {
    const std::unique_ptr<BIO, FreePem> bio(::BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    std::optional<std::string> why;
    while (true) {
        const std::unique_ptr<X509, FreePem> cert(::PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
        if (cert == nullptr) break;
        if (::X509_cmp_time(::X509_get0_notBefore(cert.get()), &now) > 0)
            why = fmt::format("it is valid from {} on", text_of(::X509_get0_notBefore(cert.get())));
        else if (::X509_cmp_time(::X509_get0_notAfter(cert.get()), &now) < 0)
            why = fmt::format("it was valid until {}", text_of(::X509_get0_notAfter(cert.get())));
        else
            return std::nullopt;
    }
    ::ERR_clear_error();  // the end of the text is one
    return why;
}

}  // namespace ivds
