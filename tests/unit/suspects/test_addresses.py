"""Where the service connects to: everything special is refused, in every spelling."""

from ipaddress import ip_address, ip_network

import pytest

from app.errors import PolicyRefused
from app.suspects.addresses import NetworkRules, parse_endpoint, verify_address

PUBLIC = NetworkRules()
LOOPBACK = NetworkRules(allowed_networks=(ip_network("127.0.0.0/8"),), allow_http=True, ports=None)


def words(text):
    return text.split()


SPECIAL = words("""
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16 169.254.169.254 169.254.170.2
172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.0.1 192.175.48.1
198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:8.8.8.8 ::ffff:0:127.0.0.1
64:ff9b::7f00:1 64:ff9b::a9fe:a9fe
64:ff9b:1::1 100::1 100:0:0:1::1 2001::1 2001:0:7f00:1:: 2001:2::1 2001:10::1 2001:20::1 2001:db8::1
2002:7f00:1:: 2002:808:808::
2620:4f:8000::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%1 fec0::1 ff02::1 ff0e::1
""")


@pytest.mark.parametrize("address", SPECIAL)
def test_a_special_address_is_refused(address):
    with pytest.raises(PolicyRefused) as refused:
        verify_address(ip_address(address), PUBLIC)
    assert address not in refused.value.message


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"]
)
def test_a_public_address_is_accepted(address):
    verify_address(ip_address(address), PUBLIC)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9"])
def test_an_allowed_network_is_accepted(address):
    verify_address(ip_address(address), LOOPBACK)


@pytest.mark.parametrize("address", ["::ffff:127.0.0.1", "10.0.0.1", "::1"])
def test_an_allowed_network_allows_no_other_spelling_of_itself(address):
    with pytest.raises(PolicyRefused):
        verify_address(ip_address(address), LOOPBACK)


ODD_HOSTS = words("""
2130706433 0x7f000001 0x7F000001 0x7f.1 0177.0.0.1 017700000001 127.1 127.0.1 0 0x 1.1.1.1.1 256.1.1.1
08.8.8.8 8.8.8.08 ①②⑦.⓪.⓪.①
127。0。0。1 \uff11\uff12\uff17.0.0.1 127.0.0.1. localhost. exa_mple.com -a.example a-.example a..example
.example example.0x7f
[::1%25lo] [::1 ::1 [fe80::1%eth0] [127.0.0.1] [:::] münchen.example %31%32%37.0.0.1 example.com%2f a%00b
""")


@pytest.mark.parametrize("host", ODD_HOSTS)
@pytest.mark.parametrize("rules", [PUBLIC, LOOPBACK], ids=["public", "loopback"])
def test_an_odd_host_is_refused_before_any_look_up(host, rules):
    with pytest.raises(PolicyRefused):
        parse_endpoint(f"https://{host}/v1", rules)


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]"])
def test_a_special_address_as_host_is_refused_before_any_look_up(host):
    with pytest.raises(PolicyRefused):
        parse_endpoint(f"https://{host}/", PUBLIC)


ODD_URLS = (
    "http://suspect.example/",
    "https://suspect.example./",
    "https://[::1%25eth0]/",
    "https://[v1.fe80::a]/",
    "https://0x7f000001/",
    "https://127.1/",
    "https://example.com%00.suspect.example/",
    "https://suspect.example%0d%0aHost:10.0.0.1/",
    "https://suspect.example/\u200b",
    "https://suspect。example/",
    "https://suspect.example:\uff14\uff14\uff13/",
    "https://suspect.example;@10.0.0.1/",
    "https://:443/",
    "https://suspect.example:-443/",
    "https://suspect.example:+443/",
    "https://suspect.example: 443/",
    "\\\\suspect.example\\share",
    "ftp://suspect.example/",
    "file:///etc/passwd",
    "gopher://suspect.example/",
    "unix:///var/run/docker.sock",
    "//suspect.example/",
    "suspect.example",
    "https://",
    "https:///path",
    "https:/suspect.example",
    "HTTPS://suspect.example/",
    "https://user@suspect.example/",
    "https://user:pass@suspect.example/",
    "https://suspect.example@127.0.0.1/",
    "https://suspect.example\\@127.0.0.1/",
    "https://127.0.0.1\\@suspect.example/",
    "https://suspect.example#@127.0.0.1/",
    "https://suspect.example/#fragment",
    "https://suspect.example /",
    " https://suspect.example/",
    "https://suspect.example/\r\nHost: other",
    "https://suspect.example/\n",
    "https://suspect.example\t/",
    "https://suspect.example:8443/",
    "https://suspect.example:0/",
    "https://suspect.example:080/",
    "https://suspect.example:443:443/",
    "https://suspect.example:99999/",
    "https://suspect.example/ü",
    "https://suspect.example/" + "a" * 2000,
    "https://" + "a" * 64 + ".example/",
    "https://" + "a." * 127 + "example/",
)


@pytest.mark.parametrize("url", ODD_URLS)
def test_an_odd_url_is_refused(url):
    with pytest.raises(PolicyRefused) as refused:
        parse_endpoint(url, PUBLIC)
    assert refused.value.pointer == "/endpoint"


@pytest.mark.parametrize(
    ("url", "suffix", "asked"),
    [
        ("https://suspect.example", "/v1/models/m:predict", "https://suspect.example:443/v1/models/m:predict"),
        ("https://Suspect.Example/base/", "/v2", "https://suspect.example:443/base/v2"),
        ("https://suspect.example/score?api-version=1", "", "https://suspect.example:443/score?api-version=1"),
        ("https://suspect.example/base?api-version=1", "/v2", "https://suspect.example:443/base/v2?api-version=1"),
        ("https://8.8.8.8:443/score/", "", "https://8.8.8.8:443/score/"),
        ("https://[2606:4700::1111]/", "", "https://[2606:4700::1111]:443/"),
        ("https://xn--mnchen-3ya.example/", "", "https://xn--mnchen-3ya.example:443/"),
    ],
)
def test_a_plain_url_is_kept_and_takes_the_adapters_path(url, suffix, asked):
    assert parse_endpoint(url, PUBLIC).url(suffix) == asked


def test_http_and_other_ports_are_the_operators_choice():
    assert parse_endpoint("http://127.0.0.1:8123", LOOPBACK).url("/v1") == "http://127.0.0.1:8123/v1"
    with pytest.raises(PolicyRefused):
        parse_endpoint("https://suspect.example:8123", NetworkRules(ports=frozenset({443, 8443})))
