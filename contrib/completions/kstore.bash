_kstore_completion() {
    local IFS=$'\n' line=${COMP_LINE:0:COMP_POINT} completion type value word
    word=${line##*[[:space:]]}
    COMPREPLY=()
    for completion in $(env COMP_WORDS="$line" _KSTORE_COMPLETE=bash_complete "$1"); do
        IFS=',' read -r type value <<< "$completion"
        case $type in
        dir) compopt -o dirnames ;;
        file) compopt -o default ;;
        plain)
            # What stands before the last ':' is a word of its own for readline, and stays.
            if [[ $COMP_WORDBREAKS == *:* && $word == *:* ]]; then
                value=${value#"${word%:*}:"}
            fi
            COMPREPLY+=("$value")
            ;;
        esac
    done
    return 0
}

complete -o nosort -F _kstore_completion kstore
