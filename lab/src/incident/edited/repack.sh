# Makes newer packages of nginx from those that are installed, with Debian's own maintainer scripts, and installs them as
# apt does. $1 is added to their version.
set -e
version=$(dpkg-query -W -f '${Version}' nginx)
rm -rf /root/newer
mkdir /root/newer
for package in $(dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\n' 'nginx*' |
    awk -v version="$version" '$2 == version && $3 == "installed" { print $1 }'); do
    root=/root/newer/$package
    mkdir -p "$root/DEBIAN"
    dpkg-query -L "$package" | while read -r path; do
        # /lib is a link on the host, and no part of the package.
        if [ -d "$path" ] && { [ ! -L "$path" ] || [ "$path" = /lib ]; }; then
            mkdir -p "$root$path"
        elif [ -e "$path" ] || [ -L "$path" ]; then
            mkdir -p "$root${path%/*}"
            cp -a "$path" "$root$path"
        fi
    done
    for part in preinst postinst prerm postrm config templates triggers conffiles; do
        if [ -e "/var/lib/dpkg/info/$package.$part" ]; then
            cp "/var/lib/dpkg/info/$package.$part" "$root/DEBIAN/$part"
        fi
    done
    # The others of the same source are asked for in the same version.
    dpkg-query -s "$package" | awk -v old="$version" -v new="$version$1" '
        /^[^ ]/ { left_out = /^(Status|Conffiles):/ }
        left_out { next }
        {
            line = ""
            while (at = index($0, old)) {
                line = line substr($0, 1, at - 1) new
                $0 = substr($0, at + length(old))
            }
            print line $0
        }' >"$root/DEBIAN/control"
    dpkg-deb -Znone --build "$root" "/root/newer/$package.deb" >/dev/null
    rm -rf "$root"
done
apt-get install -y /root/newer/*.deb
rm -rf /root/newer
